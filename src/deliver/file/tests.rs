//! A file output against a folder.

use super::*;
use std::os::unix::fs::PermissionsExt as _;

struct Place {
    folder: tempfile::TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.ndjson");
    Place { folder, path }
}

impl Place {
    fn read(&self, suffix: &str) -> String {
        fs::read_to_string(format!("{}{suffix}", self.path.display())).unwrap()
    }
    fn exists(&self, suffix: &str) -> bool {
        fs::exists(format!("{}{suffix}", self.path.display())).unwrap()
    }
}

fn plain(path: &Path, rotate_bytes: u64, rotate_keep: u32) -> File {
    let path = path.to_owned();
    File::new(&config::File { path, rotate_bytes, rotate_age: None, rotate_keep, gzip: false })
}

async fn send(file: &mut File, lines: &str) -> Outcome {
    file.send(Lines::from(lines)).await
}

fn held(outcome: Outcome) -> String {
    let Outcome::Hold(text) = outcome else { panic!("{outcome:?}") };
    text
}

fn storage(outcome: Outcome) -> String {
    let Outcome::Retry { reason: Reason::Storage, text, after: None } = outcome else {
        panic!("{outcome:?}")
    };
    text
}

#[tokio::test]
async fn lines_are_appended_to_what_is_there_and_the_file_is_not_for_everybody() {
    let place = place();
    let mut file = plain(&place.path, u64::MAX, 1);
    assert_eq!(send(&mut file, "{\"a\":1}\n").await, Outcome::Accepted);
    assert_eq!(send(&mut file, "{\"a\":2}\n").await, Outcome::Accepted);
    drop(file);
    assert_eq!(send(&mut plain(&place.path, u64::MAX, 1), "{\"a\":3}\n").await, Outcome::Accepted);
    assert_eq!(place.read(""), "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n");
    assert_eq!(fs::metadata(&place.path).unwrap().permissions().mode() & 0o7777 & !MODE, 0);
}

#[tokio::test]
async fn a_torn_last_line_is_cut_and_never_merged_with_the_next_record() {
    for (before, kept) in [
        ("{\"a\":1}\n{\"a\":2".to_string(), "{\"a\":1}\n"),
        ("{\"a\":".to_string(), ""),
        (format!("x\n{}", "y".repeat(3 * BLOCK)), "x\n"),
        (format!("x\n{}", "\0".repeat(BLOCK - 2)), "x\n"),
        ("whole\n".to_string(), "whole\n"),
    ] {
        let place = place();
        fs::write(&place.path, before).unwrap();
        assert_eq!(send(&mut plain(&place.path, u64::MAX, 1), "next\n").await, Outcome::Accepted);
        assert_eq!(place.read(""), format!("{kept}next\n"));
    }
}

#[tokio::test]
async fn something_that_is_no_file_of_lines_is_not_touched() {
    let place = place();
    fs::File::create(&place.path).unwrap().set_len(2 * TORN_LINE_BYTES).unwrap();
    assert!(held(send(&mut plain(&place.path, u64::MAX, 1), "x\n").await).contains("no line break"));
    assert_eq!(fs::metadata(&place.path).unwrap().len(), 2 * TORN_LINE_BYTES);

    let folder = place.folder.path();
    assert!(held(send(&mut plain(folder, u64::MAX, 1), "x\n").await).contains("not a regular file"));
}

#[tokio::test]
async fn rotation_keeps_the_newest_and_never_splits_a_batch() {
    let place = place();
    let mut file = plain(&place.path, 10, 2);
    for lines in ["1111\n", "2222\n", "3333\n", "longer than ten\n", "5555\n"] {
        assert_eq!(send(&mut file, lines).await, Outcome::Accepted);
    }
    assert_eq!(place.read(""), "5555\n");
    assert_eq!(place.read(".1"), "longer than ten\n");
    assert_eq!(place.read(".2"), "3333\n");
    assert!(!place.exists(".3"));
}

#[tokio::test]
async fn a_rotation_that_a_crash_cut_short_drops_nothing_the_next_time() {
    let place = place();
    // PATH.1 became PATH.2, then the power went
    fs::write(format!("{}.2", place.path.display()), "older\n").unwrap();
    fs::write(format!("{}.3", place.path.display()), "oldest\n").unwrap();
    fs::write(&place.path, "current\n").unwrap();
    assert_eq!(send(&mut plain(&place.path, 1, 3), "new\n").await, Outcome::Accepted);
    let all: Vec<String> = ["", ".1", ".2", ".3"].map(|suffix| place.read(suffix)).into();
    assert_eq!(all, ["new\n", "current\n", "older\n", "oldest\n"]);
}

#[tokio::test]
async fn a_file_that_logrotate_moved_or_removed_is_made_anew() {
    let place = place();
    let mut file = plain(&place.path, u64::MAX, 1);
    send(&mut file, "1\n").await;
    fs::rename(&place.path, format!("{}.old", place.path.display())).unwrap();
    assert_eq!(send(&mut file, "2\n").await, Outcome::Accepted);
    assert_eq!((place.read(".old"), place.read("")), ("1\n".into(), "2\n".into()));
    fs::remove_file(&place.path).unwrap();
    fs::write(&place.path, "somebody else's\n").unwrap();
    assert_eq!(send(&mut file, "3\n").await, Outcome::Accepted);
    assert_eq!(place.read(""), "somebody else's\n3\n");
    // copytruncate
    fs::OpenOptions::new().write(true).truncate(true).open(&place.path).unwrap();
    assert_eq!(send(&mut file, "4\n").await, Outcome::Accepted);
    assert_eq!(place.read(""), "4\n");
}

#[tokio::test]
async fn a_missing_folder_is_said_and_tried_again() {
    let place = place();
    let path = place.folder.path().join("logs/out.ndjson");
    let mut file = plain(&path, u64::MAX, 1);
    let text = storage(send(&mut file, "1\n").await);
    assert!(text.contains(&*path.to_string_lossy()) && text.contains("create its folder"), "{text}");
    fs::create_dir(path.parent().unwrap()).unwrap();
    assert_eq!(send(&mut file, "1\n").await, Outcome::Accepted);
}

#[tokio::test]
async fn a_failed_write_leaves_the_file_as_it_was_and_the_next_one_opens_it_again() {
    let place = place();
    fs::write(&place.path, "before\n").unwrap();
    let mut file = plain(&place.path, u64::MAX, 1);
    // a handle that cannot write stands for a disk that will not
    let broken = Open { file: fs::File::open(&place.path).unwrap(), since: now() };
    file.log.lock().unwrap().open = Some(broken);
    assert!(storage(send(&mut file, "1\n").await).contains("cannot write"));
    assert_eq!(place.read(""), "before\n");
    assert_eq!(send(&mut file, "1\n").await, Outcome::Accepted);
    assert_eq!(place.read(""), "before\n1\n");
}

#[tokio::test]
async fn two_outputs_never_write_the_same_file() {
    let place = place();
    let mut first = plain(&place.path, u64::MAX, 1);
    send(&mut first, "1\n").await;
    let mut second = plain(&place.path, u64::MAX, 1);
    assert!(held(send(&mut second, "2\n").await).contains("another output"));
    drop(first);
    assert_eq!(send(&mut second, "2\n").await, Outcome::Accepted);
}

/// A file that keeps `keep` compressed ones and is rotated at each batch.
fn packing(path: &Path, keep: u32) -> File {
    let path = path.to_owned();
    File::new(&config::File { path, rotate_bytes: 1, rotate_age: None, rotate_keep: keep, gzip: true })
}

/// What a compressed file holds.
fn inflated(path: &Path) -> String {
    let packed = fs::read(path).unwrap();
    let inflated = miniz_oxide::inflate::decompress_to_vec(&packed[10..packed.len() - 8]).unwrap();
    assert_eq!(packed[packed.len() - 8..][..4], crc32fast::hash(&inflated).to_le_bytes());
    String::from_utf8(inflated).unwrap()
}

impl Place {
    fn packed(&self, number: u32) -> PathBuf {
        format!("{}.{number}.gz", self.path.display()).into()
    }
}

#[tokio::test]
async fn rotated_files_are_compressed_and_keep_their_order_and_number() {
    let place = place();
    let mut file = packing(&place.path, 3);
    for number in 0..6 {
        assert_eq!(send(&mut file, &format!("{number}\n")).await, Outcome::Accepted);
        pack::all(&file.log, &AtomicBool::new(false));
    }
    assert_eq!(place.read(""), "5\n");
    for number in 1..=3 {
        assert_eq!(inflated(&place.packed(number)), format!("{}\n", 5 - number));
        assert!(!place.exists(&format!(".{number}")));
        let mode = fs::metadata(place.packed(number)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777 & !MODE, 0);
    }
    assert!(!place.packed(4).exists() && !place.exists(".gz.tmp"));
}

#[tokio::test]
async fn a_compression_that_a_crash_cut_short_is_done_again_and_loses_nothing() {
    let place = place();
    // the power went while PATH.2 was compressed, and before PATH.1 was removed
    fs::write(format!("{}.gz.tmp", place.path.display()), "half").unwrap();
    fs::write(format!("{}.2", place.path.display()), "older\n").unwrap();
    fs::write(format!("{}.1", place.path.display()), "old\n").unwrap();
    fs::write(place.packed(1), "whole, but it does not matter").unwrap();
    let file = packing(&place.path, 3);
    pack::all(&file.log, &AtomicBool::new(false));
    assert_eq!(
        (inflated(&place.packed(1)), inflated(&place.packed(2))),
        ("old\n".to_owned(), "older\n".to_owned())
    );
    assert!(!place.exists(".1") && !place.exists(".2") && !place.exists(".gz.tmp"));
}

#[tokio::test]
async fn what_is_compressed_while_files_are_rotated_gets_the_number_of_that_moment() {
    let place = place();
    let mut file = packing(&place.path, 50);
    // the output's own compression runs beside all of this
    for number in 0..30 {
        assert_eq!(send(&mut file, &format!("{number}\n")).await, Outcome::Accepted);
    }
    while file.packing.load(Ordering::Relaxed) {
        tokio::task::yield_now().await;
    }
    pack::all(&file.log, &AtomicBool::new(false));
    for number in 1..30 {
        assert_eq!(inflated(&place.packed(number)), format!("{}\n", 29 - number));
    }
}

#[tokio::test]
async fn a_file_is_rotated_when_it_is_old() {
    let place = place();
    let path = place.path.clone();
    let day = Some(Duration::from_secs(86_400));
    let mut file = File::new(&config::File {
        path,
        rotate_bytes: u64::MAX,
        rotate_age: day,
        rotate_keep: 3,
        gzip: false,
    });
    send(&mut file, "1\n").await;
    send(&mut file, "2\n").await;
    assert_eq!(place.read(""), "1\n2\n");
    file.log.lock().unwrap().now = || now() + Duration::from_secs(90_000);
    send(&mut file, "3\n").await;
    send(&mut file, "4\n").await;
    assert_eq!((place.read(".1"), place.read("")), ("1\n2\n".into(), "3\n4\n".into()));
}

/// A file that is rotated by its age alone, whose clock can be put forward.
fn daily(path: &Path, gzip: bool) -> File {
    let (path, day) = (path.to_owned(), Some(Duration::from_secs(86_400)));
    File::new(&config::File { path, rotate_bytes: u64::MAX, rotate_age: day, rotate_keep: 3, gzip })
}

async fn packed(file: &File) {
    while file.packing.load(Ordering::Relaxed) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_old_file_is_rotated_and_compressed_though_no_record_comes() {
    let place = place();
    let mut file = daily(&place.path, true);
    assert_eq!(file.tend().await, Some(LOOK), "nothing is there yet");
    assert!(!place.exists(""), "a look makes no file");
    send(&mut file, "1\n").await;
    packed(&file).await;
    file.log.lock().unwrap().now = || now() + Duration::from_secs(86_000);
    assert_eq!(file.tend().await, Some(LOOK));
    assert_eq!(place.read(""), "1\n", "it is not old yet");
    file.log.lock().unwrap().now = || now() + Duration::from_secs(86_500);
    assert_eq!(file.tend().await, Some(LOOK));
    packed(&file).await;
    assert_eq!((place.exists(""), inflated(&place.packed(1))), (false, "1\n".to_owned()));
    // a day later there is nothing to rotate, and the next record begins a file that is new
    file.log.lock().unwrap().now = || now() + Duration::from_secs(2 * 86_500);
    file.tend().await;
    send(&mut file, "2\n").await;
    file.tend().await;
    assert_eq!((place.read(""), place.packed(2).exists()), ("2\n".to_owned(), false));
}

#[tokio::test]
async fn an_idle_file_of_an_earlier_process_is_rotated_too_and_what_that_left_is_compressed() {
    let place = place();
    fs::write(&place.path, "old\n").unwrap();
    fs::write(format!("{}.1", place.path.display()), "older\n").unwrap();
    let mut file = daily(&place.path, true);
    file.tend().await;
    packed(&file).await;
    assert_eq!((place.read(""), inflated(&place.packed(1))), ("old\n".to_owned(), "older\n".to_owned()));
    file.log.lock().unwrap().now = || now() + Duration::from_secs(86_500);
    file.tend().await;
    packed(&file).await;
    assert!(!place.exists(""));
    assert_eq!((inflated(&place.packed(1)), inflated(&place.packed(2))), ("old\n".into(), "older\n".into()));
}

#[tokio::test]
async fn a_file_without_an_age_asks_for_no_looks_and_one_that_cannot_be_rotated_stays() {
    let place = place();
    assert_eq!(plain(&place.path, 1, 1).tend().await, None);
    let mut first = daily(&place.path, false);
    send(&mut first, "1\n").await;
    let mut second = daily(&place.path, false);
    second.log.lock().unwrap().now = || now() + Duration::from_secs(86_500);
    assert_eq!(second.tend().await, Some(LOOK), "it is asked again");
    assert!(second.told && place.exists("") && !place.exists(".1"), "another output writes it");
    drop(first);
    second.tend().await;
    assert!(!second.told && !place.exists("") && place.exists(".1"));
}
