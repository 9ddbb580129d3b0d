"""What verification trusts: named keys now, with room for certificate authorities, logs and timestamp authorities."""
