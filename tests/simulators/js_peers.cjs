// Verifies bundles with sigstore-js, found by NODE_PATH: a list of questions as JSON on standard input, their answers on standard output.
// An error that is no verdict of the library ends the process.

const { bundleFromJSON, ValidationError } = require("@sigstore/bundle");
const { TrustedRoot } = require("@sigstore/protobuf-specs");
const { PolicyError, toSignedEntity, toTrustMaterial, VerificationError, Verifier } = require("@sigstore/verify");

function answer({ root, bundle, artifact, key, policy }) {
  // Keys are known by the hint that the bundle gives; here, the asked one answers to each hint.
  const find = key && (() => ({ publicKey: require("node:crypto").createPublicKey(key), validFor: () => true }));
  const verifier = new Verifier(toTrustMaterial(TrustedRoot.fromJSON(root), find || undefined), {
    tlogThreshold: 1,
    ctlogThreshold: 1,
    timestampThreshold: 1,
  });
  try {
    const entity = toSignedEntity(bundleFromJSON(bundle), Buffer.from(artifact, "base64"));
    const { identity } = verifier.verify(entity, policy || undefined);
    return { refused: "", message: "", subject: identity?.subjectAlternativeName ?? "", issuer: identity?.extensions?.issuer ?? "" };
  } catch (error) {
    if (error instanceof ValidationError) return { refused: "VALIDATION_ERROR", message: error.message, subject: "", issuer: "" };
    if (!(error instanceof VerificationError || error instanceof PolicyError)) throw error;
    return { refused: error.code, message: error.message, subject: "", issuer: "" };
  }
}

const questions = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(questions.map(answer)));
