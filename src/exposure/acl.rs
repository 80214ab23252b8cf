//! POSIX access control lists, as Linux keeps them: an extended attribute of eight bytes an entry
//! (`include/uapi/linux/posix_acl_xattr.h`).

use std::path::Path;

/// Whom an entry gives any right, after the list's mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// The file's owner.
    Owner,
    /// Another user.
    User(u32),
    /// The file's group.
    OwningGroup,
    /// Another group.
    Group(u32),
    /// Nobody knows whom: the list cannot be read.
    Unknown,
}

/// The most that the kernel keeps (`XATTR_SIZE_MAX`).
const MAX_BYTES: usize = 64 << 10;

/// Whom a file's list lets in; none where it has no list.
#[cfg(target_os = "linux")]
pub(super) fn of(path: &Path) -> Option<Vec<Entry>> {
    use rustix::io::Errno;

    let mut list = vec![0; MAX_BYTES];
    match rustix::fs::getxattr(path, "system.posix_acl_access", &mut list[..]) {
        Ok(length) => {
            Some(list.get(..length).and_then(parse).unwrap_or_else(|| vec![Entry::Unknown]))
        }
        // Neither the file nor its file system has lists.
        Err(Errno::NODATA | Errno::NOTSUP | Errno::NOSYS) => None,
        Err(_) => Some(vec![Entry::Unknown]),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn of(_: &Path) -> Option<Vec<Entry>> {
    None
}

fn parse(list: &[u8]) -> Option<Vec<Entry>> {
    let (version, entries) = list.split_first_chunk()?;
    if u32::from_le_bytes(*version) != 2 {
        return None;
    }
    let entries: Vec<(u16, u16, u32)> = entries
        .as_chunks()
        .0
        .iter()
        .map(|&[a, b, c, d, e, f, g, h]| {
            let short = |one, two| u16::from_le_bytes([one, two]);
            (short(a, b), short(c, d), u32::from_le_bytes([e, f, g, h]))
        })
        .collect();
    let mask = entries.iter().find(|(tag, ..)| *tag == 0x10).map_or(0o7, |(_, rights, _)| *rights);
    let lets_in = |&(tag, rights, id): &(u16, u16, u32)| match tag {
        0x01 if rights != 0 => Some(Entry::Owner),
        0x02 if rights & mask != 0 => Some(Entry::User(id)),
        0x04 if rights & mask != 0 => Some(Entry::OwningGroup),
        0x08 if rights & mask != 0 => Some(Entry::Group(id)),
        _ => None,
    };
    Some(entries.iter().filter_map(lets_in).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut list = 2_u32.to_le_bytes().to_vec();
        for (tag, rights, id) in entries {
            list.extend(tag.to_le_bytes());
            list.extend(rights.to_le_bytes());
            list.extend(id.to_le_bytes());
        }
        list
    }

    /// As systemd gives a unit its credentials: root's file, read by the unit's user.
    const CREDENTIAL: [(u16, u16, u32); 5] = [
        (0x01, 0o4, u32::MAX),
        (0x02, 0o4, 47_111),
        (0x04, 0, u32::MAX),
        (0x10, 0o4, u32::MAX),
        (0x20, 0, u32::MAX),
    ];

    #[test]
    fn whom_a_list_lets_in() {
        let credential = parse(&list(&CREDENTIAL));
        assert_eq!(credential, Some(vec![Entry::Owner, Entry::User(47_111)]));
        let mut masked = CREDENTIAL;
        masked[3].1 = 0;
        assert_eq!(parse(&list(&masked)), Some(vec![Entry::Owner]));
        let groups = [(0x04, 0o4, 0), (0x08, 0o6, 7), (0x08, 0o2, 8), (0x10, 0o4, 0)];
        assert_eq!(parse(&list(&groups)), Some(vec![Entry::OwningGroup, Entry::Group(7)]));
        assert_eq!(parse(&[1, 0, 0, 0]), None, "another version");
        assert_eq!(parse(&[]), None);
    }
}
