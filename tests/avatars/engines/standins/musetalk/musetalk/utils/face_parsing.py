class FaceParsing:
    def __init__(self, left_cheek_width=80, right_cheek_width=80):
        pass
