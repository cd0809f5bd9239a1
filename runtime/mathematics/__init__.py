"""Mathematics of the kernel languages, written once for all devices: formulas over LLVM values (emit.py).

The same instructions in the same order, none of them with fast-math flags except the accumulators': so the CPU and the
GPU come to the same bits. What a device needs its own instructions for is in its own package.
"""
