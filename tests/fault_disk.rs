//! The tests' disk itself: that it loses what a real one may lose, and nothing else.

#[path = "common/fault_disk.rs"]
mod fault_disk;

use std::collections::BTreeSet;

use fault_disk::{Cuts, EIO, ENOSPC, Fault, FaultDisk, Names, Op, Survive, is_power_cut};
use trailspool::spool::disk::{Disk, DiskFile};

/// Every outcome that some choice of survivors leaves of a file; `None`: it is not there.
fn outcomes(disk: &FaultDisk, path: &str) -> BTreeSet<Option<Vec<u8>>> {
    let random = (0..2000).map(Survive::Random);
    random
        .chain([Survive::Nothing, Survive::Everything])
        .map(|survive| disk.preview(survive).contents(path))
        .collect()
}

fn file_with(disk: &FaultDisk, path: &str, bytes: &[u8]) -> fault_disk::FaultFile {
    let mut file = disk.create(path).unwrap();
    file.write_at(0, bytes).unwrap();
    let _ = file.sync().unwrap();
    disk.sync_dir("").unwrap();
    file
}

fn set(outcomes: &[Option<&[u8]>]) -> BTreeSet<Option<Vec<u8>>> {
    outcomes.iter().map(|bytes| bytes.map(<[u8]>::to_vec)).collect()
}

#[test]
fn synced_bytes_under_a_synced_name_are_certain() {
    let disk = FaultDisk::new();
    let _file = file_with(&disk, "f", b"abc");
    assert_eq!(outcomes(&disk, "f"), set(&[Some(b"abc")]));
}

#[test]
fn synced_bytes_under_an_unsynced_name_may_vanish() {
    let disk = FaultDisk::new();
    let mut file = disk.create("f").unwrap();
    file.write_at(0, b"abc").unwrap();
    let _ = file.sync().unwrap();
    assert_eq!(outcomes(&disk, "f"), set(&[None, Some(b"abc")]));
}

#[test]
fn a_synced_name_may_stand_for_lost_bytes() {
    let disk = FaultDisk::new();
    let mut file = disk.create("f").unwrap();
    file.write_at(0, b"ab").unwrap();
    disk.sync_dir("").unwrap();
    assert_eq!(outcomes(&disk, "f"), set(&[Some(b""), Some(b"a"), Some(b"ab"), Some(b"\0b")]));
}

#[test]
fn unsynced_writes_are_kept_lost_or_torn_each_on_its_own() {
    let disk = FaultDisk::new();
    let mut file = file_with(&disk, "f", b"..");
    file.write_at(0, b"ab").unwrap();
    file.write_at(2, b"c").unwrap();
    let both = ["..", "a.", ".b", "ab"];
    let expected = both.iter().flat_map(|start| [(*start).to_owned(), format!("{start}c")]);
    assert_eq!(outcomes(&disk, "f"), expected.map(|text| Some(text.into_bytes())).collect());
}

#[test]
fn every_combination_of_what_survives_is_listed_once_up_to_a_bound() {
    let disk = FaultDisk::new();
    let mut file = file_with(&disk, "f", b"....");
    file.write_at(0, b"ab").unwrap();
    file.write_at(2, b"cd").unwrap();
    disk.create("g").unwrap();
    // Each write kept, lost, or torn in two ways; the name there or not.
    let disks = disk.every_reboot(32).expect("4 * 4 * 2");
    assert_eq!(disks.len(), 32);
    let found: BTreeSet<_> = disks.iter().map(|disk| (disk.contents("f"), disk.contents("g"))).collect();
    assert_eq!(found.len(), 32);
    assert!(disk.every_reboot(31).is_none());
    // The same bytes again make no other disk.
    let disk = FaultDisk::new();
    file_with(&disk, "f", b"ab").write_at(0, b"ab").unwrap();
    assert_eq!(disk.every_reboot(10).unwrap().len(), 1);
}

#[test]
fn an_unsynced_cut_may_come_back() {
    let disk = FaultDisk::new();
    let mut file = file_with(&disk, "f", b"abc");
    file.set_len(1).unwrap();
    assert_eq!(outcomes(&disk, "f"), set(&[Some(b"abc"), Some(b"a")]));
    let _ = file.sync().unwrap();
    assert_eq!(outcomes(&disk, "f"), set(&[Some(b"a")]));
}

#[test]
fn a_failed_sync_promises_nothing_even_when_the_next_one_succeeds() {
    let disk = FaultDisk::new();
    let mut file = file_with(&disk, "f", b"a");
    file.write_at(1, b"b").unwrap();
    disk.fail_next(Op::Sync, EIO);
    assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(EIO));
    file.write_at(2, b"c").unwrap();
    let _ = file.sync().unwrap();
    assert_eq!(disk.contents("f").unwrap(), b"abc", "the program sees what the medium may not have");
    assert_eq!(outcomes(&disk, "f"), set(&[Some(b"a\0c"), Some(b"abc")]));
    file.write_at(1, b"B").unwrap();
    let _ = file.sync().unwrap();
    assert_eq!(outcomes(&disk, "f"), set(&[Some(b"aBc")]), "written again and synced is certain");
}

#[test]
fn names_of_one_folder_survive_in_order() {
    let disk = FaultDisk::new();
    file_with(&disk, "old", b"o");
    for path in ["1", "2"] {
        disk.create(path).unwrap();
    }
    disk.rename("1", "old").unwrap();
    disk.remove("2").unwrap();
    let names = |survive| {
        let mut names: Vec<_> = disk.reboot(survive).list("").unwrap().into_iter().collect();
        names.sort();
        names.iter().map(|(name, len)| format!("{name}:{len}")).collect::<Vec<_>>().join(" ")
    };
    let seen: BTreeSet<String> = (0..200).map(|seed| names(Survive::Random(seed))).collect();
    let expected = ["old:1", "1:0 old:1", "1:0 2:0 old:1", "2:0 old:0", "old:0"];
    assert_eq!(seen, expected.map(str::to_owned).into_iter().collect());
    assert_eq!(names(Survive::Nothing), "old:1");
    assert_eq!(names(Survive::Everything), "old:0");
}

#[test]
fn names_survive_in_any_order_where_that_is_asked_for() {
    let disk = FaultDisk::new().with_names(Names::AnyOrder);
    file_with(&disk, "old", b"o");
    disk.create("new.tmp").unwrap();
    disk.rename("new.tmp", "new").unwrap();
    disk.remove("old").unwrap();
    let names = |seed| {
        let names = disk.preview(Survive::Random(seed)).list("").unwrap();
        names.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(" ")
    };
    let seen: BTreeSet<String> = (0..200).map(names).collect();
    let expected = ["", "new", "new old", "new.tmp", "new.tmp old", "old"];
    assert_eq!(seen, expected.map(str::to_owned).into_iter().collect());
}

#[test]
fn folders_lose_their_names_independently_of_each_other() {
    let disk = FaultDisk::new();
    disk.create_dir("a").unwrap();
    disk.create_dir("b").unwrap();
    disk.create("a/x").unwrap();
    disk.create("b/x").unwrap();
    let seen: BTreeSet<_> = (0..200)
        .map(|seed| disk.reboot(Survive::Random(seed)))
        .map(|disk| (disk.contents("a/x").is_some(), disk.contents("b/x").is_some()))
        .collect();
    assert_eq!(seen.len(), 4);
}

#[test]
fn the_fuse_cuts_at_every_step_and_nothing_works_after_it() {
    let work = |disk: &FaultDisk| -> std::io::Result<()> {
        disk.create_dir("d")?;
        let mut file = disk.create("d/f")?;
        file.write_at(0, b"abc")?;
        let _ = file.sync()?;
        disk.rename("d/f", "d/g")?;
        disk.sync_dir("d")
    };
    let whole = FaultDisk::new();
    work(&whole).unwrap();
    assert_eq!(whole.steps(), 8, "the write is three of them");
    let mut lengths = Vec::new();
    for fuse in 0..whole.steps() {
        let disk = FaultDisk::new();
        disk.cut_after(fuse);
        assert!(is_power_cut(&work(&disk).unwrap_err()), "{fuse}");
        assert!(is_power_cut(&disk.list("d").unwrap_err()));
        assert!(is_power_cut(&disk.open("d/f").err().unwrap()));
        let after = disk.reboot(Survive::Everything);
        lengths.extend(after.contents("d/f").map(|bytes| bytes.len()));
    }
    assert_eq!(lengths, [0, 1, 2, 3, 3]);
    let exact = FaultDisk::new();
    exact.cut_after(whole.steps());
    work(&exact).unwrap();
    assert!(!exact.is_cut());
}

#[test]
fn a_coarse_cut_takes_the_first_the_middle_and_the_last_byte() {
    let mut lengths = Vec::new();
    for fuse in 1.. {
        let disk = FaultDisk::new().with_cuts(Cuts::Coarse);
        disk.cut_after(fuse);
        let mut file = disk.create("f").unwrap();
        let written = file.write_at(0, &[7; 1000]);
        lengths.push(disk.reboot(Survive::Everything).contents("f").unwrap().len());
        if written.is_ok() {
            break;
        }
    }
    assert_eq!(lengths, [0, 1, 500, 999, 1000]);
}

#[test]
fn a_removed_file_stays_readable_through_its_handle_until_the_cut() {
    let disk = FaultDisk::new();
    let file = file_with(&disk, "f", b"abc");
    disk.remove("f").unwrap();
    let mut buf = [0; 4];
    assert_eq!(file.read_at(1, &mut buf).unwrap(), 2);
    assert_eq!(&buf[..2], b"bc");
    disk.reboot(Survive::Nothing);
    assert!(is_power_cut(&file.read_at(0, &mut buf).unwrap_err()));
}

#[test]
fn handles_share_the_file() {
    let disk = FaultDisk::new();
    let mut file = file_with(&disk, "f", b"abc");
    let other = disk.open("f").unwrap();
    file.write_at(3, b"d").unwrap();
    assert_eq!(other.len().unwrap(), 4);
    assert_eq!(disk.create("f").unwrap().len().unwrap(), 0);
    assert_eq!(other.len().unwrap(), 0);
}

#[test]
fn a_full_disk_takes_what_fits_and_overwriting_needs_no_room() {
    let disk = FaultDisk::new();
    let mut file = file_with(&disk, "f", b"abc");
    disk.set_capacity(Some(5));
    assert_eq!(file.write_at(3, b"defg").unwrap_err().raw_os_error(), Some(ENOSPC));
    assert_eq!(disk.contents("f").unwrap(), b"abcde");
    file.write_at(0, b"ABC").unwrap();
    file.set_len(1).unwrap();
    file.write_at(1, b"xyz").unwrap();
    assert_eq!(disk.contents("f").unwrap(), b"Axyz");
}

#[test]
fn errors_come_where_and_when_they_were_ordered() {
    let disk = FaultDisk::new();
    disk.create_dir("d").unwrap();
    let (mut a, mut b) = (disk.create("a").unwrap(), disk.create("d/b").unwrap());
    disk.fail(Fault { op: Op::Write, errno: ENOSPC, path: "d/".to_owned(), skip: 1, times: 1 });
    a.write_at(0, b"1234").unwrap();
    b.write_at(0, b"1234").unwrap();
    assert_eq!(b.write_at(4, b"5678").unwrap_err().raw_os_error(), Some(ENOSPC));
    assert_eq!(disk.contents("d/b").unwrap(), b"123456", "half of it went through");
    b.write_at(4, b"5678").unwrap();
    disk.fail_next(Op::Read, EIO);
    assert_eq!(b.read_at(0, &mut [0; 4]).unwrap_err().raw_os_error(), Some(EIO));
    assert_eq!(b.read_at(0, &mut [0; 4]).unwrap(), 4);
    disk.fail_next(Op::SyncDir, EIO);
    assert!(disk.sync_dir("d").is_err());
    assert_eq!(disk.reboot(Survive::Nothing).contents("d/b"), None, "a failed sync_dir keeps no name");
}

#[test]
fn a_flipped_bit_is_there_before_and_after_a_reboot() {
    let disk = FaultDisk::new();
    let _file = file_with(&disk, "f", b"a");
    disk.flip("f", 0, 3);
    assert_eq!(disk.contents("f").unwrap(), b"b");
    assert_eq!(outcomes(&disk, "f"), set(&[Some(b"b")]));
}
