//! The migrations are part of the library.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
