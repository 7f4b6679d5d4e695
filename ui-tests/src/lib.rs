//! Golden messages of the macros; everything is under `tests/`.
