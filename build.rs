//! Puts version, commit, date and target into `trailspool --version`.
//!
//! The commit is `TRAILSPOOL_COMMIT`, else git's; the date is `SOURCE_DATE_EPOCH`, else the commit's. A tarball has no
//! git: there, what the environment does not say is left out. Development builds do not ask git, so that a commit
//! does not make everything be built again.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for variable in ["TRAILSPOOL_COMMIT", "SOURCE_DATE_EPOCH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let release = env("PROFILE").as_deref() == Some("release");
    if release && git(&["rev-parse", "--is-inside-work-tree"]).is_some() {
        for path in ["HEAD", "logs/HEAD"] {
            if let Some(path) = git(&["rev-parse", "--git-path", path]) {
                println!("cargo::rerun-if-changed={path}");
            }
        }
    }
    let ask = |arguments: &[&str]| if release { git(arguments) } else { None };
    let commit = env("TRAILSPOOL_COMMIT").or_else(|| ask(&["rev-parse", "--short=12", "HEAD"]));
    let epoch = env("SOURCE_DATE_EPOCH").or_else(|| ask(&["log", "-1", "--format=%ct"]));
    let date = epoch.and_then(|epoch| epoch.parse().ok()).map(date);
    let build = commit.or_else(|| (!release).then(|| "development build".to_owned()));
    let details: Vec<String> = [build, date, env("TARGET")].into_iter().flatten().collect();
    let version = env("CARGO_PKG_VERSION").unwrap_or_default();
    println!("cargo::rustc-env=TRAILSPOOL_VERSION={version} ({})", details.join(", "));
}

#[allow(clippy::disallowed_methods, reason = "the environment is what cargo tells a build script by")]
fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What git prints, of this source's own repository: not of one that the source merely lies in.
fn git(arguments: &[&str]) -> Option<String> {
    let here = env("CARGO_MANIFEST_DIR")?;
    if !std::path::Path::new(&here).join(".git").exists() {
        return None;
    }
    let output = Command::new("git").arg("-C").arg(&here).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// `YYYY-MM-DD` of a Unix time, UTC. Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn date(epoch: i64) -> String {
    let days = epoch.div_euclid(86_400) + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}
