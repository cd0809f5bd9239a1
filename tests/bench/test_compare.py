"""Two records: what counts as slower, and what is the machine's."""

import copy

from staticgraph.bench.compare import comparison

from .records import COMPILE, RECORD, changed, slowed


def told(old: dict[str, object], new: dict[str, object]) -> tuple[str, bool]:
    text, slower = comparison(old, new)
    return " ".join(text.split()), slower


def test_the_same_is_neither() -> None:
    assert told(RECORD, RECORD) == ("compared with the old record: 0 slower, 0 faster, 1 as they were", False)


def test_slower_and_faster_beyond_the_spread() -> None:
    text, slower = told(RECORD, slowed(1.5))
    assert slower and "1 slower, 0 faster" in text and "chain 64k 20.0 µs -> 30.0 µs 1.50x SLOWER" in text
    text, slower = told(slowed(1.5), RECORD)
    assert not slower and "0 slower, 1 faster" in text and "1.50x faster" in text


def test_what_the_spread_explains_is_no_change() -> None:
    wide = changed()
    ours = wide["runs"][0]["cases"][0]["contestants"]["staticgraph"]
    wide["runs"][0]["cases"][0]["contestants"]["staticgraph"] = {**ours, "high_s": 4e-5}
    assert not told(wide, slowed(1.5))[1]
    assert not told(RECORD, slowed(1.08))[1]


def test_what_peers_share_is_the_machines() -> None:
    assert not told(RECORD, slowed(1.5, peers=1.5))[1]
    text, slower = told(RECORD, slowed(3.0, peers=1.5))
    assert slower and "2.00x SLOWER (peers take 1.50x)" in text
    assert not told(RECORD, slowed(1.0, peers=2.0))[1]


def test_compiles_are_compared_by_the_spread_of_their_repeats() -> None:
    def with_compile(**fields: object) -> dict[str, object]:
        return {**RECORD, "compile": [{**COMPILE, **fields}]}

    assert "0 slower, 0 faster, 3 as they were" in told(with_compile(), with_compile())[0]
    text, slower = told(with_compile(), with_compile(cold_compile_s=3.0, cold_compile_s_all=[2.9, 3.0, 3.0]))
    assert slower and "mlp_step cold compile 1.50 s -> 3.00 s 2.00x SLOWER" in text
    assert not told(with_compile(), with_compile(cold_compile_s=3.0, cold_compile_s_all=[1.6, 3.0, 3.0]))[1]


def test_other_machines_are_named() -> None:
    other = copy.deepcopy(RECORD)
    other["runs"][0]["machine"]["processor"] = "Another"
    other["runs"][0]["peaks"]["copy_gb_s"] = 80.0
    text, slower = told(RECORD, other)
    assert text.startswith("the machines differ, so that changes may be theirs: processor: Chip then, Another now")
    assert "copy gb s: 40.0 then, 80.0 now" in text and not slower


def test_cases_of_one_record_only() -> None:
    text, _ = told(RECORD, changed(case="gelu"))
    assert "0 slower, 0 faster, 0 as they were 1 cases of the old record were not measured now" in text
