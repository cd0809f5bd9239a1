"""Threads that part and meet, barriers, warps, atomics, and what the counters count."""

import numpy as np
import pytest

from . import BASE, DeviceMemory, InactiveLane, LaunchError, PtxModule, Race, Runaway, Uninitialised
from .snippets import address, kernel, run

SEEDS = [None, 1, 2]
STORE = address(0, 4) + "\tst.global.u32 [%q2], %r4;\n"


def words(count: int) -> np.ndarray:
    return np.zeros(count, np.uint32)


@pytest.mark.parametrize("seed", SEEDS)
def test_paths_that_part_meet_again(seed: int | None) -> None:
    body = """
	and.b32 %r5, %r0, 1;
	setp.eq.s32 %p1, %r5, 0;
	@%p1 bra $EVEN;
	mul.lo.s32 %r4, %r0, 3;
	setp.gt.s32 %p2, %r0, 20;
	@!%p2 bra $JOIN;
	add.s32 %r4, %r4, 1000;
	bra.uni $JOIN;
$EVEN:
	neg.s32 %r4, %r0;
$JOIN:
	add.s32 %r4, %r4, 7;
""" + STORE
    (got,), counters = run(body, [words(64)], block=64, seed=seed)
    i = np.arange(64)
    assert (got.view(np.int32) == np.where(i % 2 == 0, -i, 3 * i + 1000 * (i > 20)) + 7).all()
    assert counters.accesses["st.global.u32 [%q2], %r4;"].sectors == 8     # all lanes at once again


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("grid", "block"), [(1, 32), (3, 48), (40, 1), (2, 1024), (700, 64)])
def test_loops_of_different_length(grid: int, block: int, seed: int | None) -> None:
    body = """
	and.b32 %r5, %r1, 15;
	mov.u32 %r4, 0;
$LOOP:
	add.s32 %r4, %r4, %r5;
	add.s32 %r5, %r5, -1;
	setp.gt.s32 %p1, %r5, 0;
	@%p1 bra $LOOP;
""" + STORE
    (got,), _ = run(body, [words(grid * block)], grid, block, seed=seed)
    last = np.arange(grid * block) % 16
    assert (got == last * (last + 1) // 2).all()


def test_a_copied_register_is_a_register_of_its_own() -> None:
    body = """
	mov.u32 %r4, %tid.x;
	mov.b32 %r5, %r4;
	cvt.u64.u32 %q3, %r4;
	mov.b64 %q4, %q3;
	setp.gt.u32 %p1, %r0, 3;
	@%p1 mov.u32 %r5, 77;
	@%p1 mov.u64 %q4, 5;
	cvt.u32.u64 %r6, %q3;
	cvt.u32.u64 %r7, %q4;
	mad.lo.s32 %r4, %r5, 1000, %r4;
	mad.lo.s32 %r6, %r7, 1000, %r6;
	xor.b32 %r4, %r4, %r6;
""" + STORE
    (got,), _ = run(body, [words(32)])
    i = np.arange(32)
    assert (got == (np.where(i > 3, 77, i) * 1000 + i) ^ (np.where(i > 3, 5, i) * 1000 + i)).all()


REVERSE = """
	mov.u64 %q5, cells;
	mad.lo.s64 %q6, %q0, 4, %q5;
	mov.u32 %r8, 0;
	mov.u32 %r4, %r0;
$LOOP:
	st.shared.u32 [%q6], %r4;
	bar.sync 0;
	sub.s32 %r9, %r3, %r0;
	cvt.s64.s32 %q7, %r9;
	mad.lo.s64 %q7, %q7, 4, %q5;
	ld.shared.u32 %r4, [%q7+-4];
	add.s32 %r4, %r4, 100;
	bar.sync 0;
	add.s32 %r8, %r8, 1;
	setp.le.u32 %p1, %r8, %r2;
	@%p1 bra $LOOP;
""" + STORE


@pytest.mark.parametrize("seed", SEEDS)
def test_barriers_in_loops_that_differ_between_blocks(seed: int | None) -> None:
    """Block b reverses its numbers b + 1 times."""
    (got,), counters = run(REVERSE, [words(4 * 96)], 4, 96, shared=4 * 96, seed=seed)
    thread, block = np.arange(4 * 96) % 96, np.arange(4 * 96) // 96
    assert (got == np.where(block % 2 == 0, 95 - thread, thread) + 100 * (block + 1)).all()
    assert counters.barriers >= 2 * 3 * (1 + 2 + 3 + 4) and counters.conflicts == 0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
@pytest.mark.parametrize("width", [32, 8])
def test_shuffles(mode: str, width: int, seed: int | None) -> None:
    clamp = (32 - width) << 8 | (0 if mode == "up" else 31)
    for operand in (0, 1, 5, 7, 16):
        body = f"""
	mul.lo.s32 %r5, %r1, 10;
	mov.u32 %r6, -1;
	shfl.sync.{mode}.b32 %r4|%p1, %r5, {operand}, {clamp}, %r6;
	selp.u32 %r7, 1, 0, %p1;
	add.s32 %r4, %r4, %r7;
""" + STORE
        (got,), _ = run(body, [words(128)], 2, 64, seed=seed)
        thread = np.arange(128)
        first = thread - thread % width
        wanted = {"up": thread - operand, "down": thread + operand, "bfly": thread ^ operand,
                  "idx": first + operand % width}[mode]
        inside = (wanted >= first) & (wanted < first + width)
        if mode == "bfly":     # earlier segments can be read, later ones cannot
            inside = wanted < first + width
        source = np.where(inside, wanted, thread)
        assert (got == source * 10 + inside).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_warp_instructions_wait_for_lanes_that_come_later(seed: int | None) -> None:
    """Odd lanes take a path that lies behind the shuffle and leads back to it."""
    body = """
	and.b32 %r5, %r0, 1;
	setp.eq.s32 %p1, %r5, 1;
	mov.u32 %r6, %r0;
	@%p1 bra $BEHIND;
$SHUFFLE:
	shfl.sync.bfly.b32 %r4, %r6, 1, 31, -1;
""" + STORE + """
	ret;
$BEHIND:
	add.s32 %r6, %r6, 100;
	bra.uni $SHUFFLE;
"""
    (got,), _ = run(body, [words(64)], block=64, seed=seed)
    other = np.arange(64) ^ 1
    assert (got == other + 100 * (other % 2)).all()


def test_half_a_warp_may_shuffle_under_its_own_mask() -> None:
    body = """
	mov.u32 %r4, 9;
	setp.ge.u32 %p1, %r0, 16;
	@%p1 bra $END;
	shfl.sync.bfly.b32 %r4, %r0, 5, 31, 65535;
$END:
""" + STORE
    (got,), _ = run(body, [words(32)])
    assert (got == np.where(np.arange(32) < 16, np.arange(32) ^ 5, 9)).all()
    with pytest.raises(InactiveLane, match="shuffle from lane 16, which does not take part"):
        run(body.replace("bfly.b32 %r4, %r0, 5", "down.b32 %r4, %r0, 1"), [words(32)])


EXCHANGE = """
	mov.u64 %q5, cells;
	mad.lo.s64 %q6, %q0, 4, %q5;
	st.shared.u32 [%q6], %r0;
	bar.warp.sync -1;
	xor.b64 %q7, %q0, 3;
	mad.lo.s64 %q7, %q7, 4, %q5;
	ld.shared.u32 %r4, [%q7];
""" + STORE


@pytest.mark.parametrize("seed", SEEDS)
def test_lanes_exchange_through_memory_with_a_warp_barrier(seed: int | None) -> None:
    (got,), _ = run(EXCHANGE, [words(64)], block=64, shared=256, seed=seed)
    assert (got == np.arange(64) ^ 3).all()
    across = EXCHANGE.replace("%q0, 3", "%q0, 35")     # that is in the other warp
    for body in (across, EXCHANGE.replace("bar.warp.sync -1;", ""),
                 EXCHANGE.replace("bar.warp.sync -1;", "shfl.sync.idx.b32 %r9, %r0, 0, 31, -1;")):
        with pytest.raises(Race, match="race in shared memory"):
            run(body, [words(64)], block=64, shared=256)


def test_votes_and_masks() -> None:
    body = """
	and.b32 %r5, %r0, 3;
	setp.eq.s32 %p1, %r5, 0;
	vote.sync.ballot.b32 %r6, %p1, -1;
	vote.sync.any.pred %p2, %p1, -1;
	vote.sync.all.pred %p3, %p1, -1;
	not.pred %p4, %p3;
	and.pred %p5, %p2, %p4;
	selp.u32 %r7, 1, 0, %p5;
	@%p1 bra $SOME;
	mov.u32 %r8, 0;
	bra.uni $END;
$SOME:
	activemask.b32 %r8;
$END:
	mov.u32 %r9, %lanemask_lt;
	popc.b32 %r9, %r9;
	xor.b32 %r4, %r6, %r8;
	shl.b32 %r7, %r7, 7;
	add.s32 %r4, %r4, %r7;
	add.s32 %r4, %r4, %r9;
""" + STORE
    (got,), _ = run(body, [words(32)])
    i = np.arange(32)
    assert (got == np.where(i % 4 == 0, 0, 0x11111111) + 128 + i).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_atomic_instructions_return_what_was_there(seed: int | None) -> None:
    body = """
	atom.global.add.u32 %r4, [%a1], 2;
	red.global.max.u32 [%a1+4], %r1;
	red.relaxed.gpu.global.or.b32 [%a1+8], %r1;
	atom.global.inc.u32 %r5, [%a1+12], 9;
	atom.global.exch.b32 %r6, [%a1+16], %r1;
""" + STORE
    (got, cells), counters = run(body, [words(200), words(8)], 5, 40, seed=seed)
    assert sorted(got.tolist()) == list(range(0, 400, 2))
    assert cells[:4].tolist() == [400, 199, 255, 0] and cells[4] < 200
    assert counters.atomics == 1000
    if seed is None:
        assert (got == np.arange(200) * 2).all()


def test_compare_and_swap_has_one_winner() -> None:
    body = """
	add.s32 %r5, %r1, 1;
	atom.relaxed.global.cas.b32 %r6, [%a1], 0, %r5;
	setp.eq.s32 %p1, %r6, 0;
	selp.u32 %r4, 1, 0, %p1;
""" + STORE
    for seed in SEEDS:
        (got, cell), _ = run(body, [words(128), words(1)], 2, 64, seed=seed)
        assert got.sum() == 1 and got[cell[0] - 1] == 1


def test_atomic_additions_in_shared_memory_and_of_floats() -> None:
    body = """
	mov.u64 %q5, cells;
	setp.eq.s32 %p1, %r0, 0;
	@%p1 st.shared.f32 [%q5], 0f00000000;
	bar.sync 0;
	cvt.rn.f32.s32 %f1, %r0;
	atom.shared.add.f32 %f2, [%q5], %f1;
	bar.sync 0;
	ld.shared.f32 %f3, [%q5];
	cvt.rzi.u32.f32 %r4, %f3;
""" + STORE
    (got,), _ = run(body, [words(128)], 2, 64, shared=16)
    assert (got == 63 * 32).all()


def test_generic_addresses_reach_both_memories() -> None:
    body = """
	mov.u64 %q5, cells;
	cvta.shared.u64 %q6, %q5;
	mad.lo.s64 %q6, %q0, 4, %q6;
	mad.lo.s64 %q7, %q1, 4, %a0;
	cvta.to.global.u64 %q8, %q7;
	st.global.u32 [%q8], 50;
	st.u32 [%q6], %r0;
	and.b32 %r5, %r0, 1;
	setp.eq.s32 %p1, %r5, 0;
	selp.b64 %q9, %q6, %q7, %p1;
	ld.u32 %r4, [%q9];
	st.u32 [%q7], %r4;
"""
    (got,), _ = run(body, [words(64)], 2, 32, shared=128)
    i = np.arange(64)
    assert (got == np.where(i % 2 == 0, i % 32, 50)).all()


# -- counters ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("step", "sectors"), [(1, 4), (2, 8), (8, 32), (32, 32), (0, 1)])
def test_sectors_show_how_loads_coalesce(step: int, sectors: int) -> None:
    body = f"\tmul.lo.s64 %q3, %q1, {step};\n" + address(1, 4, index="%q3") + "\tld.global.nc.f32 %f1, [%q2];\n" + \
        address(0, 4) + "\tst.global.f32 [%q2], %f1;\n"
    values = np.arange(128 * 32, dtype=np.float32)
    (got, _), counters = run(body, [np.zeros(128, np.float32), values], 2, 64)
    assert (got == values[np.arange(128) * step]).all()
    assert (counters.load_sectors, counters.load_bytes) == (sectors * 4 if step else 4, 512)
    assert (counters.store_sectors, counters.store_bytes) == (16, 512)
    access = counters.accesses["ld.global.nc.f32 %f1, [%q2];"]
    assert (access.executions, access.nbytes, access.ideal) == (128, 512, 16)


@pytest.mark.parametrize(("step", "conflicts"), [(1, 0), (2, 1), (3, 0), (8, 7), (32, 31), (0, 0)])
def test_bank_conflicts(step: int, conflicts: int) -> None:
    body = f"""
	mov.u64 %q5, cells;
	mad.lo.s64 %q6, %q0, {4 * max(step, 1)}, %q5;
	st.shared.u32 [%q6], %r0;
	bar.sync 0;
	mad.lo.s64 %q6, %q0, {4 * step}, %q5;
	ld.shared.u32 %r4, [%q6];
""" + STORE
    (got,), counters = run(body, [words(32)], shared=4 * 32 * max(step, 1))
    assert (got == (np.arange(32) if step else 0)).all()
    assert counters.conflicts == conflicts * 2 and counters.shared_accesses == 2


def test_vector_accesses_and_instructions() -> None:
    body = address(0, 16) + """
	ld.global.v4.u32 {%r4, %r5, %r6, %r7}, [%q2];
	st.global.v4.u32 [%q2], {%r7, %r6, %r5, %r4};
"""
    (got,), counters = run(body, [np.arange(256, dtype=np.uint32)], block=64)
    assert (got == np.arange(256).reshape(-1, 4)[:, ::-1].ravel()).all()
    assert counters.load_sectors == counters.store_sectors == 32
    assert counters.instructions == 64 * (1 + 6 + 3 + 1)     # the snippet's own: a parameter, six more, `ret`


# -- launches ---------------------------------------------------------------------------------------------------------

def test_launches_that_are_refused() -> None:
    module, memory = PtxModule(kernel(STORE)), DeviceMemory()
    for grid, block, arguments, message in ((0, 32, [0], "grid 0"), (1, 1025, [0], "block 1025"),
                                            (1, 32, [], "0 arguments")):
        with pytest.raises(LaunchError, match=message):
            module.run("snippet", grid, block, arguments, memory)
    with pytest.raises(LaunchError, match="no kernel other; there are snippet"):
        module.run("other", 1, 32, [0], memory)
    bounded = PtxModule(kernel(STORE).replace("\n)\n{", "\n)\n.maxntid 64, 1, 1\n{"))
    with pytest.raises(LaunchError, match="made for 64"):
        bounded.run("snippet", 1, 96, [0], memory)
    assert module.entries == {"snippet": ("u64",)}


def test_endless_loops_end() -> None:
    with pytest.raises(Runaway):
        module = PtxModule(kernel("$LOOP:\n\tadd.s32 %r0, %r0, 1;\n\tbra.uni $LOOP;"))
        module.run("snippet", 1, 32, [0], DeviceMemory(), most_steps=1000)


def test_dynamic_shared_memory() -> None:
    text = kernel("""
	mov.u64 %q5, extra;
	mad.lo.s64 %q6, %q0, 4, %q5;
	st.shared.u32 [%q6], %r0;
	ld.shared.u32 %r4, [%q6];
""" + STORE, shared=64).replace(".visible .entry", ".extern .shared .align 16 .b8 extra[];\n.visible .entry")
    memory = DeviceMemory()
    cells = memory.allocate(128)
    PtxModule(text).run("snippet", 1, 32, [cells], memory, dynamic_shared=128)
    assert (memory.read(cells, np.uint32, 32) == np.arange(32)).all()
    with pytest.raises(Exception, match="out-of-bounds store of 4 bytes"):
        PtxModule(text).run("snippet", 1, 32, [cells], memory, dynamic_shared=64)


def test_tables_of_constants() -> None:
    text = kernel("""
	and.b64 %q3, %q0, 3;
	mov.u64 %q4, table;
	mad.lo.s64 %q4, %q3, 4, %q4;
	ld.global.u32 %r4, [%q4];
""" + STORE)
    text = ".global .align 4 .b8 table[16] = {5, 0, 0, 0, 0xFF, 1, 0, 0, 7};\n" + text
    memory = DeviceMemory()
    cells = memory.allocate(128)
    PtxModule(text).run("snippet", 1, 32, [cells], memory)
    assert (memory.read(cells, np.uint32, 32) == np.tile([5, 511, 7, 0], 8)).all()
    assert list(memory.allocations) == [cells]


def test_two_launches_in_a_row_are_ordered() -> None:
    module, memory = PtxModule(kernel(address(0, 4) + """
	ld.global.u32 %r4, [%q2];
	add.s32 %r4, %r4, 1;
	st.global.u32 [%q2], %r4;
""")), DeviceMemory()
    cells = memory.allocate(4 * 64)
    with pytest.raises(Uninitialised):
        module.run("snippet", 2, 32, [cells], memory)
    memory.write(cells, words(64))
    for grid, block in ((2, 32), (1, 64), (64, 1)):
        module.run("snippet", grid, block, [cells], memory)
    assert (memory.read(cells, np.uint32, 64) == 3).all()
    with pytest.raises(Race):     # two parameters, one place
        PtxModule(kernel(STORE.replace("%q1", "0"), 1).replace("%r4;", "%r0;")).run("snippet", 1, 2, [cells], memory)


@pytest.mark.parametrize("grid", [2, 700])
@pytest.mark.parametrize("access", ["ld.global.u32 %r4, [%a0];", "st.global.u32 [%a0], %r0;",
                                    "atom.global.add.u32 %r4, [%a0], 1;"])
def test_blocks_are_not_ordered(access: str, grid: int) -> None:
    """The first block writes what the last one touches; 700 blocks are more than run side by side."""
    body = f"""
	sub.s32 %r5, 0, %r2;
	setp.eq.s32 %p1, %r5, 0;
	setp.eq.s32 %p2, %r2, {grid - 1};
	setp.eq.and.s32 %p1, %r0, 0, %p1;
	setp.eq.and.s32 %p2, %r0, 63, %p2;
	@%p1 st.global.u32 [%a0], 5;
	bar.sync 0;
	@%p2 {access}
"""
    for seed in SEEDS:
        with pytest.raises(Race, match=r"global memory: thread (0|63) of block"):
            run(body, [words(1)], grid, 64, seed=seed)
    run(body.replace(f"%r2, {grid - 1}", "%r2, 0"), [words(1)], grid, 64)     # a barrier within a block does order


@pytest.mark.parametrize(("access", "is_race"), [("ld.global.u32", True), ("ld.volatile.global.u32", False),
                                                 ("ld.relaxed.gpu.global.u32", False)])
def test_atomic_instructions_and_plain_ones_race(access: str, is_race: bool) -> None:
    body = f"""
	setp.lt.u32 %p1, %r0, 40;
	@%p1 red.global.add.u32 [%a0], 1;
	@!%p1 {access} %r4, [%a0];
"""
    if is_race:
        with pytest.raises(Race, match="atomic instruction"):
            run(body, [words(1)], 1, 64)
    else:
        (got,), _ = run(body, [words(1)], 1, 64)
        assert got[0] == 40


def test_readers_of_one_place_are_all_remembered() -> None:
    """Lane 9 may write after a warp barrier what its own warp read, but not what another warp read too."""
    body = """
	mov.u64 %q5, cells;
	setp.eq.s32 %p1, %r0, 0;
	@%p1 st.shared.u32 [%q5], 4;
	bar.sync 0;
	setp.lt.u32 %p2, %r0, READERS;
	@%p2 ld.shared.u32 %r4, [%q5];
	bar.warp.sync -1;
	setp.eq.s32 %p3, %r0, 9;
	@%p3 st.shared.u32 [%q5], %r4;
"""
    run(body.replace("READERS", "32"), [words(1)], 1, 96, shared=16)
    for readers in ("33", "96"):
        with pytest.raises(Race, match=r"thread 9 of block 0 writes what thread .* read"):
            run(body.replace("READERS", readers), [words(1)], 1, 96, shared=16)


# -- memory -----------------------------------------------------------------------------------------------------------

def test_allocations_lie_apart_and_are_counted() -> None:
    memory = DeviceMemory()
    first, second = memory.allocate(100), memory.allocate(7, alignment=1024)
    assert first % 256 == 0 and second % 1024 == 0 and second - first >= 1124 - 24 and first > BASE
    assert memory.allocations == {first: 100, second: 7}
    memory.write(first + 4, np.arange(3, dtype=np.int16))
    assert memory.read(first + 6, np.int16, (2, 1)).tolist() == [[1], [2]]
    assert memory.is_written(first + 4, 6) and not memory.is_written(first, 6)
    memory.mark_unwritten(first + 4, 2)
    assert not memory.is_written(first + 4, 6)
    empty = memory.allocate(0)
    memory.free(empty)
    memory.free(first)
    assert memory.allocations == {second: 7}


def test_host_copies_are_checked() -> None:
    memory = DeviceMemory()
    cells = memory.allocate(16)
    with pytest.raises(Uninitialised, match=rf"uninitialised bytes at {cells + 4:#x}, byte 4 of the allocation of 16"):
        memory.write(cells, np.zeros(1, np.int32))
        memory.read(cells, np.int32, 4)
    for action in (lambda: memory.write(cells + 8, np.zeros(3, np.int32)), lambda: memory.read(cells - 4, np.int32, 1),
                   lambda: memory.write(5, np.zeros(1)), lambda: memory.free(cells + 4)):
        with pytest.raises(Exception, match=r"bytes at|is no allocation"):
            action()
    memory.free(cells)
    with pytest.raises(Exception, match="free already"):
        memory.free(cells)


def test_much_memory_is_reused_only_late() -> None:
    memory, seen = DeviceMemory(), set()
    for _ in range(3 * 64):
        address = memory.allocate(1 << 20)
        seen.add(address)
        memory.free(address)
    assert len(seen) > 32 and memory.size <= 256 << 20
    kept = [memory.allocate(1 << 20) for _ in range(100)]
    memory.write(kept[-1], np.ones(1 << 20, np.uint8))
    assert (np.diff(sorted(kept)) >= 1 << 20).all()
