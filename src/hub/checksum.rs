//! The hash that the hub states of a file, and whether the file has it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

const BUFFER_BYTES: usize = 1 << 18;

/// In hexadecimal; which one it is shows in its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksum<'a> {
    /// Of the large files.
    Sha256(&'a str),
    /// Of the others: git's name of a blob, the SHA-1 of its length and content, or a mirror's
    /// SHA-1 of the content alone. Nothing stronger is stated of them.
    Sha1(&'a str),
}

impl<'a> Checksum<'a> {
    /// The hash in an `ETag`, if it is one.
    pub(super) fn of_etag(etag: &'a str) -> Option<Self> {
        let is_hex = etag.bytes().all(|c| c.is_ascii_hexdigit());
        match etag.len() {
            64 if is_hex => Some(Self::Sha256(etag)),
            40 if is_hex => Some(Self::Sha1(etag)),
            _ => None,
        }
    }

    /// What to tell of a file with another hash.
    ///
    /// The file is read back from the disk, so that the beginning of a resumed one counts too.
    pub(super) fn mismatch(self, path: &Path) -> io::Result<Option<String>> {
        let mut file = File::open(path)?;
        let (name, expected, mut contexts) = match self {
            Self::Sha256(expected) => ("SHA-256", expected, vec![Context::new(&SHA256)]),
            Self::Sha1(expected) => {
                let mut blob = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
                blob.update(format!("blob {}\0", file.metadata()?.len()).as_bytes());
                let content = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
                ("git blob id", expected, vec![blob, content])
            }
        };
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => (contexts.iter_mut()).for_each(|context| context.update(&buffer[..read])),
            }
        }
        let digits = |byte: &u8| format!("{byte:02x}");
        let found = contexts.into_iter().map(|context| {
            let hash = context.finish();
            hash.as_ref().iter().map(digits).collect::<String>()
        });
        let found: Vec<String> = found.collect();
        let is_it = found
            .iter()
            .any(|found| expected.eq_ignore_ascii_case(found));
        Ok((!is_it).then(|| format!("its {name} is {}, expected {expected}", found[0])))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_has_no_hash() {
        let folder = tempfile::tempdir().unwrap();
        let checksum = Checksum::Sha256("");
        assert!(checksum.mismatch(folder.path()).is_err());
    }

    #[test]
    fn hashes_are_gits_and_sha256() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, "hello\n").unwrap();
        // `git hash-object f`, `sha1sum f`, `sha256sum f`.
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        let sha1 = "f572d396fae9206628714fb2ce00f72e94f2258f";
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        for etag in [git, sha1, sha256, &git.to_ascii_uppercase()] {
            let checksum = Checksum::of_etag(etag).unwrap();
            assert_eq!(checksum.mismatch(&path).unwrap(), None);
            std::fs::write(&path, "hellO\n").unwrap();
            let mismatch = checksum.mismatch(&path).unwrap().unwrap();
            assert!(mismatch.ends_with(&format!(", expected {etag}")));
            std::fs::write(&path, "hello\n").unwrap();
        }
    }

    #[test]
    fn other_etags_say_nothing_of_the_content() {
        for etag in ["abc", &"g".repeat(40), &"a".repeat(32), ""] {
            assert_eq!(Checksum::of_etag(etag), None);
        }
    }
}
