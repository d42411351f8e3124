//! The `bulkhead` binary.

use std::process::ExitCode;

/// Samples are made in one thread and dropped in another, which costs glibc's allocator a lock each.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    bulkhead::cli::main()
}
