//! Figures: what a benchmark found out, as a table for people and as JSON for whoever compares runs.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// One measured figure.
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) name: String,
    /// How much.
    pub(crate) value: f64,
    /// Of what: "us", "ms" or "MiB".
    pub(crate) unit: &'static str,
    /// What it is set against, measured in the same run; `None` for a figure that stands by itself.
    pub(crate) rival: Option<Against>,
    /// What it should keep, if anything.
    pub(crate) goal: Option<Goal>,
}

/// A rival and how a figure compares.
pub(crate) struct Against {
    pub(crate) name: String,
    /// Figure by rival.
    pub(crate) ratio: f64,
    /// The 10th and the 90th percentile of the ratio over the rounds; `None` where it follows from
    /// other figures.
    pub(crate) spread: Option<(f64, f64)>,
}

pub(crate) struct Goal {
    pub(crate) text: String,
    pub(crate) met: bool,
}

/// Figures in the order in which they came, under headings.
pub(crate) struct Figures {
    /// Which benchmark they are of: a run replaces its own in a JSON file and no others.
    bench: &'static str,
    all: Vec<Figure>,
}

impl Figures {
    pub(crate) fn new(bench: &'static str) -> Self {
        println!("machine: {}", machine());
        let all = Vec::new();
        Self { bench, all }
    }

    /// Begins a table.
    pub(crate) fn heading(&self, text: &str) {
        println!("\n### {text}\n");
        println!("| what | median | against | ratio (10 % to 90 %) | goal |");
        println!("|---|---:|---|---:|---|");
    }

    /// Prints a row and keeps it.
    pub(crate) fn add(&mut self, figure: Figure) {
        let (rival, ratio) = figure
            .rival
            .as_ref()
            .map_or_else(Default::default, |rival| {
                let spread = rival.spread.map_or_else(String::new, |(low, high)| {
                    format!(" ({} to {})", short(low), short(high))
                });
                (rival.name.clone(), short(rival.ratio) + &spread)
            });
        let goal = figure.goal.as_ref().map_or_else(String::new, |goal| {
            let met = if goal.met { "met" } else { "NOT MET" };
            format!("{}: {met}", goal.text)
        });
        println!(
            "| {} | {} {} | {rival} | {ratio} | {goal} |",
            figure.name,
            short(figure.value),
            figure.unit,
        );
        self.all.push(figure);
    }

    /// Tells the goals, and writes all figures to the file that follows `--json` in the arguments.
    pub(crate) fn finish(self) {
        let with_goal = self.all.iter().filter_map(|figure| figure.goal.as_ref());
        let (met, missed): (Vec<_>, Vec<_>) = with_goal.partition(|goal| goal.met);
        println!("\ngoals: {} met, {} not met", met.len(), missed.len());
        let mut arguments = std::env::args();
        if arguments.any(|argument| argument == "--json") {
            let path = arguments.next().expect("--json takes a path");
            self.write(&in_repository(&path));
        }
    }

    fn write(&self, path: &Path) {
        let mut rows: Vec<Value> = std::fs::read(path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        rows.retain(|row| row["bench"] != self.bench);
        rows.extend(self.all.iter().map(|figure| self.row(figure)));
        let mut text = serde_json::to_string_pretty(&rows).expect("rows are plain values");
        text.push('\n');
        std::fs::write(path, text).expect("the file can be written");
        println!("written: {}", path.display());
    }

    fn row(&self, figure: &Figure) -> Value {
        let rival = figure.rival.as_ref();
        let goal = figure.goal.as_ref();
        json!({
            "bench": self.bench,
            "name": figure.name,
            "value": significant(figure.value, 4),
            "unit": figure.unit,
            "rival": rival.map(|rival| rival.name.as_str()),
            "ratio": rival.map(|rival| significant(rival.ratio, 4)),
            "ratio_spread": rival
                .and_then(|rival| rival.spread)
                .map(|(low, high)| [significant(low, 4), significant(high, 4)]),
            "goal": goal.map(|goal| goal.text.as_str()),
            "met": goal.map(|goal| goal.met),
            "machine": machine(),
        })
    }
}

/// What the figures were measured on, as far as ratios depend on it.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut text = format!("{}, {cores} cores", std::env::consts::ARCH);
    #[cfg(target_arch = "x86_64")]
    {
        let known = [
            ("AES", std::arch::is_x86_feature_detected!("aes")),
            ("VAES", std::arch::is_x86_feature_detected!("vaes")),
            (
                "PCLMULQDQ",
                std::arch::is_x86_feature_detected!("pclmulqdq"),
            ),
            ("SHA", std::arch::is_x86_feature_detected!("sha")),
            ("ADX", std::arch::is_x86_feature_detected!("adx")),
        ];
        for (name, _) in known.iter().filter(|(_, there)| *there) {
            text.push_str(", ");
            text.push_str(name);
        }
    }
    text
}

/// Cargo runs a benchmark in its package's folder; a path is meant from the repository's.
fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// Three significant digits, for people.
fn short(value: f64) -> String {
    let value = significant(value, 3);
    if value.abs() >= 100.0 {
        let whole = format!("{value:.0}");
        let groups: Vec<&str> = whole
            .as_bytes()
            .rchunks(3)
            .rev()
            .map(|group| std::str::from_utf8(group).expect("digits"))
            .collect();
        return groups.join(",");
    }
    let decimals = match value.abs() {
        v if v == 0.0 || v >= 10.0 => 1,
        v => 2 - v.log10().floor() as i32,
    };
    format!("{value:.*}", decimals as usize)
}

/// Further digits would be noise.
fn significant(value: f64, digits: i32) -> f64 {
    if value == 0.0 {
        return value;
    }
    let scale = 10f64.powi(digits - 1 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}
