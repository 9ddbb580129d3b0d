"""Key material: public keys that check, private keys that sign, and the files that hold them."""
