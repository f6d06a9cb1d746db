"""Targets for a fuzzer that follows coverage (atheris, libFuzzer), one a parser.

A target is a module `fuzz_NAME.py` with one function, `one(octets)`: any octets are allowed, and it raises where a
promise is broken. Its kept corpus is `corpus/NAME/`. `make fuzz` runs them all (FUZZ_SECONDS each); the test suite
plays every kept input again, without a fuzzer (tests/fuzz/test_corpus.py).
"""
