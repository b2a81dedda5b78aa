"""What can go wrong with keys and signing.

ConfigError
├── MnemonicInvalid      the words aren't a BIP-39 mnemonic; says which rule they break, never repeats them
├── SharesInvalid        no SLIP-39 shares of one secret; names the bad one by its place, never repeats a word
├── FingerprintDiffers   these words or shares are of another key than the one named
├── XpubInvalid          not an account-level extended public key
├── KeyFileMissing       there is no key file (nor copy) where one was expected
├── KeyFileExists        a key file is never written over
├── KeyFileUnsafe        others than its owner could read it
├── FileUnsafe           others than the signer's user could read or change a file of the signer's
├── KeyFileLocked        it doesn't open: wrong passphrase or damaged; one constant message for both
├── KeyNeeded            it is the only key of its role, and isn't destroyed by the way
├── PassphraseMissing    nothing gave a passphrase, or it is empty or too long
├── TokenRefused         the PKCS#11 token can't do it, or holds a key that isn't as it must be
├── PolicyInvalid        the policy file says something that can't be meant
├── PolicyNotAccepted    not the policy that the journal knows
├── JournalMissing       keys without a journal: nothing may be signed
├── JournalExists        a journal is never begun anew
├── JournalInUse         another signer has it open
├── ResyncRefused        what is to be given back to a journal doesn't fit it, or too few signed it
└── SocketInUse          another signer listens there
BrokenInvariant
└── JournalTampered      a row disagrees with the hash chain
Rejected
├── IntentInvalid        an intent that can't be meant, or bytes that aren't one
│   └── NoKeyAtIndex     BIP-32 has no key there; the next index has one
└── SignerRefused        policy or journal say no; carries the signer's code and sentence
Unavailable
├── KeysBusy             another process tries a passphrase at the same keys
├── TokenUnavailable     the PKCS#11 module or token isn't there
└── SignerUnavailable    no answer in time; trying again can help
    └── SignerMismatch   an answer, but not to this attempt or not by this key: somebody else sits at the socket
"""

from base.errors import BrokenInvariant, ConfigError, Rejected, Unavailable


class MnemonicInvalid(ConfigError):
    default_code = "mnemonic_invalid"


class SharesInvalid(ConfigError):
    default_code = "shares_invalid"


class FingerprintDiffers(ConfigError):
    default_code = "fingerprint_differs"


class XpubInvalid(ConfigError):
    default_code = "xpub_invalid"


class KeyFileMissing(ConfigError):
    default_code = "key_file_missing"


class KeyFileExists(ConfigError):
    default_code = "key_file_exists"


class KeyFileUnsafe(ConfigError):
    default_code = "key_file_unsafe"


class FileUnsafe(ConfigError):
    default_code = "file_unsafe"


class KeyFileLocked(ConfigError):
    default_code = "key_file_locked"


class KeyNeeded(ConfigError):
    default_code = "key_needed"


class PassphraseMissing(ConfigError):
    default_code = "passphrase_missing"


class TokenRefused(ConfigError):
    default_code = "token_refused"


class PolicyInvalid(ConfigError):
    default_code = "policy_invalid"


class PolicyNotAccepted(ConfigError):
    default_code = "policy_not_accepted"


class JournalMissing(ConfigError):
    default_code = "journal_missing"


class JournalExists(ConfigError):
    default_code = "journal_exists"


class JournalBehind(ConfigError):
    default_code = "journal_behind"


class JournalInUse(ConfigError):
    default_code = "journal_in_use"


class ResyncRefused(ConfigError):
    default_code = "resync_refused"


class SocketInUse(ConfigError):
    default_code = "socket_in_use"


class JournalTampered(BrokenInvariant):
    default_code = "journal_tampered"


class IntentInvalid(Rejected):
    default_code = "intent_invalid"


class NoKeyAtIndex(IntentInvalid):
    default_code = "no_key_at_index"


class SignerRefused(Rejected):
    """The signer's own no: `code` and `sentence` are its words, `rule` the policy rule that spoke, if one did.

    `sequence` and `head` are the signer's journal after the refusal; commit them as those of an answer.
    """

    default_code = "signer_refused"

    def __init__(
        self, code: str, sentence: str, *, rule: str | None = None, sequence: int = 0, head: bytes = b""
    ) -> None:
        super().__init__(sentence, code=code, **({} if rule is None else {"rule": rule}))
        self.sentence = sentence
        self.rule = rule
        self.sequence = sequence
        self.head = head


class KeysBusy(Unavailable):
    default_code = "keys_busy"


class TokenUnavailable(Unavailable):
    default_code = "token_unavailable"


class SignerUnavailable(Unavailable):
    default_code = "signer_unavailable"


class SignerMismatch(SignerUnavailable):
    default_code = "signer_mismatch"
