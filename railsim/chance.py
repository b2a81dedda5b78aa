"""The simulator's one source of randomness: seeded, so that a run can be repeated."""

from base.entropy import SeededEntropy

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_ACCOUNT = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
_CAPITALS = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"


class Chance:
    """Ids and decisions out of one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._entropy = SeededEntropy(seed)

    def below(self, bound: int) -> int:
        """A whole number of 0 to `bound` - 1."""
        return int.from_bytes(self._entropy.draw(8), "big") % bound

    def letters(self, count: int) -> str:
        return "".join(_LETTERS[byte % len(_LETTERS)] for byte in self._entropy.draw(count))

    def capitals(self, count: int) -> str:
        return "".join(_CAPITALS[byte % len(_CAPITALS)] for byte in self._entropy.draw(count))

    def payer_id(self) -> str:
        """An id of a PayPal account: without the digits and letters that look alike."""
        return "".join(_ACCOUNT[byte % len(_ACCOUNT)] for byte in self._entropy.draw(13))

    def hexadecimal(self, count: int) -> str:
        return self._entropy.draw((count + 1) // 2).hex()[:count]

    def uuid(self) -> str:
        text = self.hexadecimal(32)
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"
