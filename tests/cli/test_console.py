import logging

from bec_mace.cli.console import log_to_stderr


def test_each_message_once_and_plain(capsys):
    log_to_stderr()
    log_to_stderr()
    logging.getLogger("bec_mace.train").info("epoch %d", 3)
    logging.getLogger("bec_mace.train").debug("hidden")
    assert capsys.readouterr().err == "epoch 3\n"


def test_an_exception_on_its_way_up_is_not_printed(capsys):
    log_to_stderr()
    try:
        raise ValueError("on its way")
    except ValueError:
        logging.getLogger("bec_mace").exception("the run stopped")
    assert capsys.readouterr().err == ""
