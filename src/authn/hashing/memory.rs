//! The memory that argon2 fills. A thread that hashes keeps what a hash of the current scheme takes,
//! so that many hashes take it from the system once; what takes more has it for that hash alone.

use std::fmt;

use argon2::{Algorithm, Argon2, Block, Error, Params, Version};

use super::CURRENT_MEMORY;

/// What is asked for at a time, in blocks of 1 KiB; of which nothing beyond what is used is taken
/// from the machine. C libraries serve what is smaller than 32 MiB from heaps that never shrink
/// (glibc, once the first such piece was given back), and hand back what is larger.
const RESERVED: usize = 33 << 10;

/// Memory to hash in, kept from one hash to the next: none at first, then what one hash of the current
/// scheme takes.
#[derive(Default)]
pub(crate) struct Memory(Vec<Block>);

impl Memory {
    /// Whether there is something to [give back](Self::release).
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives all of it back to the system.
    pub(crate) fn release(&mut self) {
        self.0 = Vec::new();
    }

    pub(super) fn argon2id(
        &mut self,
        version: Version,
        params: Params,
        password: &[u8],
        salt: &[u8],
        output: &mut [u8],
    ) -> Result<(), Error> {
        let blocks = params.block_count();
        let argon2 = Argon2::new(Algorithm::Argon2id, version, params);
        if usize::try_from(CURRENT_MEMORY).is_ok_and(|current| blocks > current) {
            return argon2.hash_password_into(password, salt, output);
        }
        if self.0.len() < blocks {
            self.0.try_reserve_exact(RESERVED).map_err(|_| Error::OutOfMemory)?;
            self.0.resize(blocks, Block::new());
        }
        argon2.hash_password_into_with_memory(password, salt, output, &mut self.0)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("blocks", &self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Verdict, hash_in, verify_in};
    use super::*;
    use crate::store::PasswordHash;

    /// What is kept holds traces of the hash before, which must make no difference.
    #[test]
    fn hashes_of_any_size_one_after_the_other_in_the_same_memory() {
        let mut memory = Memory::default();
        assert!(memory.is_empty());
        let current = hash_in(&mut memory, "one").unwrap();
        let kept = memory.0.len();
        assert_eq!(kept, usize::try_from(CURRENT_MEMORY).unwrap());
        let small = "$argon2id$v=19$m=64,t=1,p=1$8PHy8/T19vf4+fr7/P3+/w$ar90BYdJii2cxAHccd64eQ";
        let large = "$argon2id$v=19$m=65536,t=3,p=4$8PHy8/T19vf4+fr7/P3+/w$/i+cW84gaRZfcOX7fCOBy1A6UTOJoz/GT8oWp+2yscM";
        for _ in 0..2 {
            for (hash, password) in [
                (current.clone(), "one"),
                (PasswordHash::new(small), "correct horse battery staple"),
                (PasswordHash::new(large), "correct horse battery staple"),
            ] {
                let verdict = verify_in(&mut memory, password, &hash).unwrap();
                assert_eq!(verdict, Verdict::Match);
                assert_eq!(verify_in(&mut memory, "", &hash).unwrap(), Verdict::Mismatch);
                assert!(memory.0.len() <= kept);
            }
            memory.release();
            assert!(memory.is_empty());
        }
    }
}
