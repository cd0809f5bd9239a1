"""Taking a program home: a folder of scripts that run it, and each of its kernels, without this package.

    sources.py         the text of modules, cut into what they define, and who needs what
    gather.py          what some definitions need, as one text that stands alone
    formulas.py        sizes as Python, and values of users as literals
    made_up.py         inputs where nobody gives any
    record.py          a call step by step, with what each step found and left in memory
    kernel_files.py    the script of a kernel
    main_file.py       the script of the whole program
    plan_text.py       its sizes, memory and steps in it
    folder.py          the folder: written under another name first, then put in its place
    write.py           all of it, with a README

A script compiles its kernel as the runtime does, with the runtime's own front end and LLVM's passes, whose text it
holds too: Numba's passes add up in another order what is free to be added up in any, and then no two results agree to
the bit. With ``--numba`` a script has its kernel compiled by Numba itself.

What the scripts do when they run stands in kernel_script.py and main_script.py: modules like any other, whose text is
copied into the scripts.
"""
