"""The certificates with which simulated PayPal signs webhooks: a root, an intermediate and a leaf, made at start."""

import datetime as dt
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

SIGNER_NAME = "messageverificationcerts.paypal.com"
"""The host that PayPal's own leaf certificates are for."""

_FROM, _UNTIL = dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2049, 12, 31, tzinfo=dt.UTC)

_Issuer = tuple[x509.Name, ec.EllipticCurvePrivateKey]


@dataclass(frozen=True, slots=True)
class Chain:
    """`root` is what a client trusts; `served` what the certificate URL gives: leaf, then intermediate."""

    root: bytes
    served: bytes
    _key: rsa.RSAPrivateKey

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message, padding.PKCS1v15(), hashes.SHA256())

    def verifies(self, signature: bytes, message: bytes) -> bool:
        try:
            self._key.public_key().verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        except Exception:  # cryptography raises InvalidSignature, and ValueError for what is no signature at all
            return False
        return True


def make_chain() -> Chain:
    """Keys from the operating system's generator: they aren't a part of the repeatable run."""
    root_key, middle_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    leaf_key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    root_name, middle_name = _name("railsim root"), _name("railsim intermediate")
    root = _certificate(root_name, root_key.public_key(), (root_name, root_key), authority=True)
    middle = _certificate(middle_name, middle_key.public_key(), (root_name, root_key), authority=True)
    leaf = _certificate(_name(SIGNER_NAME), leaf_key.public_key(), (middle_name, middle_key), authority=False)
    return Chain(_pem(root), _pem(leaf) + _pem(middle), leaf_key)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _certificate(
    subject: x509.Name, key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, issuer: _Issuer, *, authority: bool
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0])
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(_usage(authority=authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer[1].public_key()), critical=False)
    )
    if not authority:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(SIGNER_NAME)]), critical=False)
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
    return builder.sign(issuer[1], hashes.SHA256())


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=authority, crl_sign=authority, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
