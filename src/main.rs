//! The program `penstock`; all of it is in the library.

fn main() -> std::process::ExitCode {
    penstock::cli::main()
}
