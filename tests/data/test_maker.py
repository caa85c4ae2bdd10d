from counterscan.data.maker import Maker


def test_a_maker_is_told_in_one_line_and_in_what_fits_into_a_list():
    maker = Maker("Inpainting", "chest/classifier", "effusion=0")
    assert maker.words == f"counterscan Inpainting {maker.version}, classifier chest/classifier, target effusion=0"
    assert maker.parameters == {"classifier": "chest/classifier", "target": "effusion=0"}
    assert len(Maker("a" * 100).name) == 64


def test_an_unknown_maker_is_the_program_alone():
    assert Maker().name == "counterscan"
    assert Maker().parameters == {}
