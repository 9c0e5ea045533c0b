//! The text of `trailspool regions`: for people a table, for programs the same with every endpoint, tab-separated.

use std::fmt::Write;

use crate::aws::partition::{Flavor, REGIONS, Region};

/// Columns of [`tsv`]. Endpoints that do not exist are empty.
const COLUMNS: &str =
    "region\tlabel\tpartition\ts3\ts3-fips\ts3-dualstack\ts3-fips-dualstack\tsqs\tsqs-fips\tsts\tsts-fips";

/// Region, label, S3 and SQS endpoints, which services have a FIPS endpoint, and whether S3 has a dual-stack one.
pub fn table() -> String {
    let mut rows = vec![["REGION", "LABEL", "S3", "SQS", "FIPS", "DUAL-STACK"].map(str::to_owned)];
    rows.extend(REGIONS.iter().map(|region| {
        let [s3, s3_fips, s3_dualstack, _] = s3(region);
        let fips = [
            ("S3", !s3_fips.is_empty()),
            ("SQS", region.sqs(true).is_some()),
            ("STS", region.sts(true).is_some()),
        ];
        let fips: Vec<&str> = fips.into_iter().filter(|(_, exists)| *exists).map(|(name, _)| name).collect();
        let or_none = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let dualstack = if s3_dualstack.is_empty() { "-" } else { "S3" };
        [
            region.name.to_owned(),
            region.label.to_owned(),
            s3,
            region.sqs(false).unwrap_or_default(),
            or_none(&fips.join(" ")),
            dualstack.to_owned(),
        ]
    }));
    let widths: Vec<usize> =
        (0..6).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end()); // a String takes anything
    }
    text
}

/// A line of column names, then one line for each region.
pub fn tsv() -> String {
    let mut text = format!("{COLUMNS}\n");
    for region in REGIONS {
        let mut cells =
            vec![region.name.to_owned(), region.label.to_owned(), region.partition.arn().to_owned()];
        cells.extend(s3(region));
        cells.extend(
            [region.sqs(false), region.sqs(true), region.sts(false), region.sts(true)]
                .map(Option::unwrap_or_default),
        );
        let _ = writeln!(text, "{}", cells.join("\t")); // a String takes anything
    }
    text
}

/// Plain, FIPS, dual-stack, FIPS dual-stack.
fn s3(region: &Region) -> [String; 4] {
    [(false, false), (true, false), (false, true), (true, true)]
        .map(|(fips, dualstack)| region.s3(Flavor { fips, dualstack }).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_region_and_its_columns_stand_under_each_other() {
        let text = table();
        assert_eq!(text.lines().count(), REGIONS.len() + 1);
        let at = text.lines().next().unwrap().find("S3").unwrap();
        assert!(text.lines().skip(1).all(|line| line[at..].starts_with("s3.")), "{text}");
        let oregon = text.lines().find(|line| line.starts_with("us-west-2 ")).unwrap();
        for part in [
            "US West (Oregon)",
            "s3.us-west-2.amazonaws.com",
            "sqs.us-west-2.amazonaws.com",
            "  S3 SQS STS  S3",
        ] {
            assert!(oregon.contains(part), "{oregon}");
        }
        let ireland = text.lines().find(|line| line.starts_with("eu-west-1 ")).unwrap();
        assert!(ireland.ends_with("  -           S3"), "{ireland}");
    }

    #[test]
    fn programs_get_every_endpoint() {
        let text = tsv();
        let columns: Vec<&str> = COLUMNS.split('\t').collect();
        assert!(text.lines().all(|line| line.split('\t').count() == columns.len()));
        let gov: Vec<&str> =
            text.lines().find(|line| line.starts_with("us-gov-east-1\t")).unwrap().split('\t').collect();
        assert_eq!(
            gov[2..6],
            [
                "aws-us-gov",
                "s3.us-gov-east-1.amazonaws.com",
                "s3-fips.us-gov-east-1.amazonaws.com",
                "s3.dualstack.us-gov-east-1.amazonaws.com"
            ]
        );
        assert_eq!(gov[10], "sts.us-gov-east-1.amazonaws.com");
    }
}
