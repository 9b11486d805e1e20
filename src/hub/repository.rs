//! Names on the hub: repositories, revisions, files. All of them become part of paths and URLs, so
//! they are checked first.

use std::fmt;

/// A repository at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Which repository.
    pub id: RepositoryId,
    /// Which state of it.
    pub revision: Revision,
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.revision.0 == Revision::DEFAULT {
            write!(f, "{}", self.id)
        } else {
            write!(f, "{} at {}", self.id, self.revision)
        }
    }
}

/// `ORG/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryId(String);

impl RepositoryId {
    /// The hub's rules for names, with which no two repositories share a cache folder.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_inner = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_name = |name: &str| {
            name.starts_with(is_inner)
                && name.ends_with(is_inner)
                && name.chars().all(|c| is_inner(c) || matches!(c, '-' | '.'))
                && !name.contains("--")
                && !name.contains("..")
        };
        let (owner, name) = text.split_once('/')?;
        (is_name(owner) && is_name(name) && text.len() <= 96).then(|| Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepositoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A branch, a tag or a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision(String);

impl Revision {
    const DEFAULT: &str = "main";

    /// A revision that can be a path below `refs/`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        (is_relative_path(text) && text.len() <= 200).then(|| Self(text.to_owned()))
    }

    /// Whether this is a full commit hash, which always means the same files.
    #[must_use]
    pub fn is_commit(&self) -> bool {
        is_commit(&self.0)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Revision {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether this is a commit hash in full.
pub(super) fn is_commit(text: &str) -> bool {
    let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    text.len() == 40 && text.bytes().all(is_hex)
}

/// Whether joining this to a folder stays inside it.
pub(super) fn is_relative_path(text: &str) -> bool {
    text.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !text.contains(|c: char| c == '\\' || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_ids_are_told_from_paths() {
        for id in ["Qwen/Qwen-Image", "a/b", "_a/b_", "org.x/n.1-2"] {
            assert_eq!(
                RepositoryId::parse(id).as_ref().map(RepositoryId::as_str),
                Some(id)
            );
        }
        for path in [
            "./x/y",
            "/models/x",
            "../x",
            "~/x",
            "a/b/c",
            "models",
            "a/",
            "/a",
            "",
            "a/..",
            "a/b--c",
            "a--b/c",
            "a/b..c",
            "a/b-",
            "a/.b",
            "a/ü",
        ] {
            assert_eq!(RepositoryId::parse(path), None, "{path}");
        }
    }

    #[test]
    fn revisions_stay_below_their_folder() {
        for revision in ["main", "v1.0", "refs/pr/1", "feature--x"] {
            assert!(Revision::parse(revision).is_some(), "{revision}");
        }
        for revision in [
            "", "..", "../x", "a/../b", "/a", "a/", "a//b", "a\\b", "a\nb",
        ] {
            assert!(Revision::parse(revision).is_none(), "{revision}");
        }
    }

    #[test]
    fn only_a_full_hash_is_a_commit() {
        assert!(is_commit(&"0123456789abcdef".repeat(3)[..40]));
        assert!(
            !is_commit("0123abc") && !is_commit(&"A".repeat(40)) && !is_commit(&"g".repeat(40))
        );
    }
}
