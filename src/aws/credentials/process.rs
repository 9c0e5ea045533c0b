//! `credential_process`: a command of a profile that prints credentials as JSON.
//!
//! It is run without a shell: words are split at white space, `'…'` and `"…"` keep them together, `\` takes the next
//! character as it is (between `"` only before `"` and `\`); nothing is expanded. It has no input, its errors are not
//! read, for they may hold a secret, and it is killed when it takes too long or prints too much.
//!
//! Source: AWS SDKs and Tools Reference Guide, "Process credential provider".

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::Issued;
use super::document::{self, Form};
use crate::aws::control::{clip, now};
use crate::aws::fault::{Class, Fault};
use crate::limits;

/// The longest that a command may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs the command and reads what it prints.
pub(super) async fn issue(command: &str) -> Result<Issued, Fault> {
    issue_within(command, LIMIT).await
}

async fn issue_within(command: &str, limit: Duration) -> Result<Issued, Fault> {
    let fault = |class, why: &str| {
        let program = words(command).and_then(|words| words.into_iter().next());
        let program = program.map_or(String::new(), |program| format!(" ({})", clip(&program)));
        Fault::new(class, "credentials", format!("credential_process{program}: {why}"))
    };
    let Some(words) = words(command) else {
        return Err(fault(
            Class::Config,
            "is not a command: it is empty, too long, or a quote is not closed",
        ));
    };
    let (status, printed) = match timeout(limit, run(&words)).await {
        Ok(done) => done.map_err(|error| {
            let why = format!("cannot be run: {error}; its words are split at spaces, and no shell is used");
            fault(Class::Config, &why)
        })?,
        Err(_) => return Err(fault(Class::Retry, &format!("took longer than {limit:?} and was ended"))),
    };
    if !status.success() {
        let why = format!("failed ({status}): run it by hand as the user of this service to see why");
        return Err(fault(Class::Denied, &why));
    }
    document::read(&printed, Form::Process, now()).map_err(|why| fault(Class::Denied, &why.to_string()))
}

/// At most one byte more than a document may have: what prints more is killed. The child ends when this is dropped.
async fn run(words: &[Zeroizing<String>]) -> io::Result<(ExitStatus, Zeroizing<Vec<u8>>)> {
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut child = Command::new(program.as_str())
        .args(arguments.iter().map(|word| word.as_str()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let most = limits::CREDENTIALS_BYTES + 1;
    let mut printed = Zeroizing::new(Vec::with_capacity(most));
    if let Some(stdout) = child.stdout.take() {
        // Its own reservations would leave copies of a secret behind: it gets no more than there is room for.
        let mut stdout = stdout.take(most as u64);
        while printed.len() < most && stdout.read_buf(&mut *printed).await? > 0 {}
    }
    if printed.len() == most {
        child.start_kill()?;
        child.wait().await?;
        return Ok((ExitStatus::default(), printed)); // too long, whatever its status
    }
    Ok((child.wait().await?, printed))
}

/// The words of a command; `None`: there are none, too many bytes, or a quote is not closed.
fn words(command: &str) -> Option<Vec<Zeroizing<String>>> {
    if command.len() > limits::COMMAND_BYTES {
        return None;
    }
    let mut words = Vec::new();
    let mut word: Option<Zeroizing<String>> = None;
    let mut quote = None;
    let mut rest = command.chars().peekable();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (None, ' ' | '\t') => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_with(|| room(command));
            }
            (Some(open), c) if c == open => quote = None,
            (None, '\\') => word.get_or_insert_with(|| room(command)).push(rest.next()?),
            (Some('"'), '\\') if matches!(rest.peek(), Some('"' | '\\')) => {
                word.get_or_insert_with(|| room(command)).extend(rest.next());
            }
            (_, c) => word.get_or_insert_with(|| room(command)).push(c),
        }
    }
    words.extend(word);
    (quote.is_none() && !words.is_empty() && !words[0].is_empty()).then_some(words)
}

/// Room for the longest word: an argument may be a secret.
fn room(command: &str) -> Zeroizing<String> {
    Zeroizing::new(String::with_capacity(command.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(command: &str) -> Option<Vec<String>> {
        words(command).map(|words| words.iter().map(|word| word.to_string()).collect())
    }

    #[test]
    fn words_are_split_as_written() {
        for (command, words) in [
            ("a", &["a"][..]),
            ("  /opt/x  --role\tr ", &["/opt/x", "--role", "r"]),
            (r#""/opt/my tool" 'a "b" c' d\ e"#, &["/opt/my tool", "a \"b\" c", "d e"]),
            (r#"a "" 'b'"c"d "\"\\\n$HOME""#, &["a", "", "bcd", "\"\\\\n$HOME"]),
            ("a $(b) | c > d * ~", &["a", "$(b)", "|", "c", ">", "d", "*", "~"]),
        ] {
            assert_eq!(split(command).unwrap(), words, "{command}");
        }
        for wrong in ["", "  ", "a 'b", "a \"b", "a\\", "'' a"] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
        assert_eq!(split(&"a".repeat(limits::COMMAND_BYTES + 1)), None);
    }

    fn script(text: &str) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("script");
        std::fs::write(&path, text).unwrap();
        let command = format!("/bin/sh '{}' hush-argument", path.display());
        (folder, command)
    }

    #[tokio::test]
    async fn what_a_command_prints_are_the_keys() {
        let (_folder, command) = script(
            r#"echo '{"Version":1,"AccessKeyId":"ASIAX","SecretAccessKey":"'"$1"'","SessionToken":"t"}'; cat"#,
        );
        let issued = issue(&command).await.unwrap();
        assert_eq!(issued.keys.secret_access_key(), "hush-argument");
        assert_eq!(issued.life, None);
    }

    #[tokio::test]
    async fn a_command_that_fails_is_told_without_what_it_said() {
        for (text, class, words) in [
            ("echo hush; echo hush >&2; exit 3", Class::Denied, "exit status: 3"),
            ("kill -9 $$", Class::Denied, "signal: 9"),
            ("echo hush", Class::Denied, "not a JSON document"),
            ("true", Class::Denied, "not a JSON document"),
            (r#"echo '{"AccessKeyId":"A","SecretAccessKey":"hush"}'"#, Class::Denied, "has no Version"),
            (
                "while :; do echo hush-hush-hush-hush-hush-hush-hush; done",
                Class::Denied,
                "longer than 16384 bytes",
            ),
        ] {
            let (_folder, command) = script(text);
            let fault = issue(&command).await.unwrap_err();
            assert_eq!(fault.class, class, "{fault}");
            assert!(fault.text.starts_with("credential_process (/bin/sh): "), "{fault}");
            assert!(fault.text.contains(words) && !fault.text.contains("hush"), "{fault}");
        }
        for (command, words) in [("/nowhere/tool hush", "cannot be run"), ("'hush", "a quote is not closed")]
        {
            let fault = issue(command).await.unwrap_err();
            assert_eq!(fault.class, Class::Config);
            assert!(fault.text.contains(words) && !fault.text.contains("hush"), "{fault}");
        }
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_ended() {
        let (folder, _) = script("");
        let pid_file = folder.path().join("pid");
        let text = format!("echo $$ > '{}'; exec sleep 1000", pid_file.display());
        std::fs::write(folder.path().join("script"), text).unwrap();
        let command = format!("/bin/sh '{}'", folder.path().join("script").display());
        let fault = issue_within(&command, Duration::from_secs(2)).await.unwrap_err();
        assert!(fault.class == Class::Retry && fault.text.contains("took longer than 2s"), "{fault}");
        let pid = std::fs::read_to_string(&pid_file).unwrap();
        let gone = || match std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())) {
            Ok(stat) => stat.contains(") Z "), // killed, not yet reaped
            Err(_) => true,
        };
        for _ in 0..500 {
            if gone() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it still runs");
    }
}
