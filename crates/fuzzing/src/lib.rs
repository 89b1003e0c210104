//! Arbitrary bytes for all that reads what others wrote: decoders, the ledger's state machine, containers,
//! the HTTP surface, record parsers.
//!
//! A target takes bytes and panics if something does not hold that must hold for all of them. `fuzz/` runs
//! each under libFuzzer, `tests/smoke.rs` over the inputs that are kept. A target holds no state between
//! two inputs that could change what it finds in the second.

mod alone;
pub mod centre_http;
pub mod chain_texts;
pub mod client_texts;
pub mod cloud_http;
pub mod container;
pub mod hospital_http;
mod input;
pub mod ledger_state;
pub mod ledger_texts;
pub mod mllp;
pub mod node_http;
pub mod parties_texts;
pub mod query_http;
pub mod records;
pub mod scheme_texts;
mod served;
pub mod smart;
pub mod viewed;
mod world;

pub use served::end;

/// Something that is given arbitrary bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// As its file in `fuzz/fuzz_targets` and its folder in `fuzz/corpus` are called.
    pub name: &'static str,
    /// Panics if something does not hold.
    pub run: fn(&[u8]),
    /// Inputs to begin with, made of real objects.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target {
        name: "scheme_texts",
        run: scheme_texts::texts,
        seeds: scheme_texts::text_seeds,
    },
    Target {
        name: "scheme_points",
        run: scheme_texts::points,
        seeds: scheme_texts::point_seeds,
    },
    Target {
        name: "container",
        run: container::run,
        seeds: container::seeds,
    },
    Target {
        name: "ledger_texts",
        run: ledger_texts::run,
        seeds: ledger_texts::seeds,
    },
    Target {
        name: "ledger_state",
        run: ledger_state::run,
        seeds: ledger_state::seeds,
    },
    Target {
        name: "chain_texts",
        run: chain_texts::run,
        seeds: chain_texts::seeds,
    },
    Target {
        name: "parties_texts",
        run: parties_texts::texts,
        seeds: parties_texts::text_seeds,
    },
    Target {
        name: "parties_sealed",
        run: parties_texts::sealed,
        seeds: parties_texts::sealed_seeds,
    },
    Target {
        name: "client_texts",
        run: client_texts::run,
        seeds: client_texts::seeds,
    },
    Target {
        name: "record_files",
        run: records::files,
        seeds: records::file_seeds,
    },
    Target {
        name: "record_sections",
        run: records::sections,
        seeds: records::section_seeds,
    },
    Target {
        name: "viewing",
        run: viewed::run,
        seeds: viewed::seeds,
    },
    Target {
        name: "query_http",
        run: query_http::run,
        seeds: query_http::seeds,
    },
    Target {
        name: "centre_http",
        run: centre_http::run,
        seeds: centre_http::seeds,
    },
    Target {
        name: "node_http",
        run: node_http::run,
        seeds: node_http::seeds,
    },
    Target {
        name: "cloud_http",
        run: cloud_http::run,
        seeds: cloud_http::seeds,
    },
    Target {
        name: "hospital_http",
        run: hospital_http::run,
        seeds: hospital_http::seeds,
    },
    Target {
        name: "gateway_mllp",
        run: mllp::run,
        seeds: mllp::seeds,
    },
    Target {
        name: "gateway_smart",
        run: smart::run,
        seeds: smart::seeds,
    },
];
