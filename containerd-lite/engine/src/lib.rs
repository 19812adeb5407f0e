//! Docker's semantics: names, run, attach, exec, logs.
