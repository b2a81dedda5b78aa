"""What can go wrong with keys and signing.

ConfigError
├── MnemonicInvalid      the words aren't a BIP-39 mnemonic; says which rule they break, never repeats them
├── XpubInvalid          not an account-level extended public key
├── KeyFileMissing       there is no key file (nor copy) where one was expected
├── KeyFileExists        a key file is never written over
├── KeyFileUnsafe        others than its owner could read it
├── KeyFileLocked        it doesn't open: wrong passphrase or damaged; one constant message for both
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
└── SignerRefused        policy or journal say no; carries the signer's code and sentence
Unavailable
└── SignerUnavailable    no answer in time; trying again can help
    └── SignerMismatch   an answer, but not to this attempt or not by this key: somebody else sits at the socket
"""

from base.errors import BrokenInvariant, ConfigError, Rejected, Unavailable


class MnemonicInvalid(ConfigError):
    default_code = "mnemonic_invalid"


class XpubInvalid(ConfigError):
    default_code = "xpub_invalid"


class KeyFileMissing(ConfigError):
    default_code = "key_file_missing"


class KeyFileExists(ConfigError):
    default_code = "key_file_exists"


class KeyFileUnsafe(ConfigError):
    default_code = "key_file_unsafe"


class KeyFileLocked(ConfigError):
    default_code = "key_file_locked"


class PolicyInvalid(ConfigError):
    default_code = "policy_invalid"


class PolicyNotAccepted(ConfigError):
    default_code = "policy_not_accepted"


class JournalMissing(ConfigError):
    default_code = "journal_missing"


class JournalExists(ConfigError):
    default_code = "journal_exists"


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


class SignerRefused(Rejected):
    """The signer's own no: `code` and `sentence` are its words, `rule` the policy rule that spoke, if one did.

    `sequence` and `head` are the signer's journal after the refusal; commit them as those of an answer.
    """

    default_code = "signer_refused"

    def __init__(
        self, code: str, sentence: str, *, rule: str | None = None, sequence: int = 0, head: bytes = b""
    ) -> None:
        super().__init__(sentence, code=code, rule=rule)
        self.sentence = sentence
        self.rule = rule
        self.sequence = sequence
        self.head = head


class SignerUnavailable(Unavailable):
    default_code = "signer_unavailable"


class SignerMismatch(SignerUnavailable):
    default_code = "signer_mismatch"
