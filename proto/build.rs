//! Generates the code of the control API, by compilers in Rust alone: nobody needs protoc.

use std::error::Error;
use std::path::PathBuf;

use protox::prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=outrigger");
    let descriptors = protox::compile(["outrigger/v1/control.proto"], ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // What reflection tells.
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
