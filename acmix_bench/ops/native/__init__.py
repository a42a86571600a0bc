"""The local operator in C++, optional: built where a compiler is, at first use."""
