//! The files that AWS's tools share, `~/.aws/credentials` and `~/.aws/config`: one profile out of their text. A core.
//!
//! `[name]` heads a profile in the credentials file, `[profile name]` and `[default]` in the configuration file; a
//! section that stands twice is one. Keys are told apart without case; `#` and `;` begin a comment at the start of a
//! line, and in a value behind white space. An indented line belongs to the key before it and is left out. Lines that
//! are none of this are left out too: the files belong to other tools as well.
//!
//! Source: AWS SDKs and Tools Reference Guide, "Format of the shared config and credentials files".

/// Which of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// `~/.aws/credentials`
    Credentials,
    /// `~/.aws/config`
    Config,
}

/// The value of `key` in profile `name`: the last one that stands there. `None` is no such key or profile; an empty
/// value is one that stands there.
pub fn value<'a>(text: &'a str, file: File, name: &str, key: &str) -> Option<&'a str> {
    let mut found = None;
    each(text, &mut |section, entry| {
        if let Some((k, v)) = entry
            && k.eq_ignore_ascii_case(key)
            && heads(section, file, name)
        {
            found = Some(v);
        }
    });
    found
}

/// Whether the profile stands in the file.
pub fn has(text: &str, file: File, name: &str) -> bool {
    let mut found = false;
    each(text, &mut |section, _| found |= heads(section, file, name));
    found
}

/// Visits each section's header (what stands between the brackets), then each key and value in it.
fn each<'a>(text: &'a str, visit: &mut dyn FnMut(&'a str, Option<(&'a str, &'a str)>)) {
    let mut section = None;
    for line in text.strip_prefix('\u{feff}').unwrap_or(text).lines() {
        let indented = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[').filter(|_| !indented) {
            // What follows a broken header belongs to nobody, rather than to the section before.
            section = rest.split_once(']').map(|(header, _)| header.trim());
            if let Some(section) = section {
                visit(section, None);
            }
            continue;
        }
        if let (false, Some(section), Some((key, value))) = (indented, section, line.split_once('=')) {
            visit(section, Some((key.trim(), uncommented(value))));
        }
    }
}

/// Whether a header names this profile.
fn heads(header: &str, file: File, name: &str) -> bool {
    let profile = header
        .strip_prefix("profile")
        .filter(|rest| rest.starts_with([' ', '\t']))
        .map(|rest| unquoted(rest.trim()));
    match file {
        File::Credentials => unquoted(header) == name,
        File::Config => profile == Some(name) || (name == "default" && header == "default"),
    }
}

fn unquoted(name: &str) -> &str {
    let between = |quote| name.strip_prefix(quote)?.strip_suffix(quote);
    between('"').or_else(|| between('\'')).unwrap_or(name)
}

fn uncommented(value: &str) -> &str {
    let mut after_space = false;
    for (at, c) in value.char_indices() {
        if after_space && (c == '#' || c == ';') {
            return value[..at].trim();
        }
        after_space = c == ' ' || c == '\t';
    }
    value.trim()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONFIG: &str = "\u{feff}# shared
region = nowhere
[default]
region=us-west-2
output = json # not this
[profile audit]\r
role_arn = arn:aws:iam::1:role/x\r
SOURCE_PROFILE = default
s3 =
  max_concurrent_requests = 20
  role_arn = not this
url = http://h/#frag;x
[ profile  \"two words\" ] ; comment
credential_process = \"/opt/a b\" --x  ; comment
[sso-session audit]
role_arn = not this
[profile broken
role_arn = not this
[profile audit]
external_id = abc
empty =
no equals sign
";

    #[test]
    fn a_configuration_file() {
        let of = |name, key| value(CONFIG, File::Config, name, key);
        assert_eq!(of("default", "region"), Some("us-west-2"));
        assert_eq!(of("default", "output"), Some("json"));
        assert_eq!(of("audit", "role_arn"), Some("arn:aws:iam::1:role/x"));
        assert_eq!(of("audit", "source_profile"), Some("default"));
        assert_eq!(of("audit", "max_concurrent_requests"), None);
        assert_eq!(of("audit", "url"), Some("http://h/#frag;x"));
        assert_eq!(of("audit", "external_id"), Some("abc"));
        assert_eq!(of("audit", "empty"), Some(""));
        assert_eq!(of("two words", "credential_process"), Some("\"/opt/a b\" --x"));
        assert_eq!(of("broken", "role_arn"), None);
        assert!(has(CONFIG, File::Config, "audit") && !has(CONFIG, File::Config, "broken"));
        assert!(!has(CONFIG, File::Credentials, "audit") && has(CONFIG, File::Credentials, "default"));
    }

    #[test]
    fn a_credentials_file() {
        let text = "[audit]\naws_access_key_id=A\naws_secret_access_key = a/b+c=\n[profile audit]\naws_access_key_id=B\n";
        let of = |key| value(text, File::Credentials, "audit", key);
        assert_eq!((of("aws_access_key_id"), of("aws_secret_access_key")), (Some("A"), Some("a/b+c=")));
        assert_eq!(value("[a]\nk=1\n[a]\nk=2", File::Credentials, "a", "K"), Some("2"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_found(
            profiles in proptest::collection::btree_map("[a-z][a-z0-9 _-]{0,6}[a-z]",
                proptest::collection::btree_map("[a-z_]{1,8}", "[!-~&&[^#;]]{0,12}", 0..4), 1..5),
        ) {
            let mut text = String::new();
            for (name, entries) in &profiles {
                text += &format!("[profile {name}]\n");
                for (key, value) in entries {
                    text += &format!("{key} = {value}\n; x\n");
                }
            }
            for (name, entries) in &profiles {
                prop_assert!(has(&text, File::Config, name));
                for (key, written) in entries {
                    prop_assert_eq!(value(&text, File::Config, name, key), Some(written.as_str()));
                }
            }
        }

        #[test]
        fn no_text_panics(text in any::<String>(), name in any::<String>(), key in any::<String>()) {
            let found = value(&text, File::Credentials, &name, &key);
            prop_assert!(found.is_none() || has(&text, File::Credentials, &name));
        }
    }
}
