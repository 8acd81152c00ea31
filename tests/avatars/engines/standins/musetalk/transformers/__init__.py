class WhisperModel:
    @classmethod
    def from_pretrained(cls, path):
        return cls()

    def to(self, device=None, dtype=None):
        return self

    def eval(self):
        return self

    def requires_grad_(self, on):
        pass
