//! The consortium's pages, for whoever operates, audits or observes it: who belongs to it, who leads, the
//! blocks as they come, each as the paper's Figure 8 draws it, and proofs that are computed in front of the
//! reader. No patient's identity is on the chain, so none can be here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use askama::Template;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use chain::Offence;
use client::now;
use futures::future::join_all;
use ledger::{Block, Header, Height, Kind, Role, Tier, TransactionId};
use scheme::{InstitutionId, VerifyingKey};

use crate::app::{App, Shared, locked};
use crate::frame::{Frame, message, missing, page};
use crate::time_words::{ago, moment};
use crate::words::Language;

/// Blocks that the strip shows.
const STRIP: usize = 24;
/// Blocks that one look reads at most.
const AT_ONCE: usize = 64;
/// For how long after a page was asked for the nodes are looked at: a page that is open asks twice a minute.
const WANTED: Duration = Duration::from_secs(60);

/// What was seen of the consortium.
#[derive(Default)]
pub(crate) struct Watched(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    members: Vec<Member>,
    /// Newest first.
    blocks: VecDeque<Header>,
    evidence: usize,
    away: Option<String>,
    /// When a page of it was asked for.
    wanted: Option<Instant>,
}

#[derive(Clone, PartialEq, Eq)]
struct Member {
    id: InstitutionId,
    name: String,
    tier: Tier,
    key: VerifyingKey,
    votes: bool,
    height: Option<u64>,
    release: String,
    led: u64,
}

/// Looks at the nodes and the blocks since the last look, as long as somebody looks at the pages.
pub(crate) async fn follow(app: &App) {
    let wanted = locked(&app.watched.0).wanted;
    if wanted.is_none_or(|at| at.elapsed() > WANTED) {
        return;
    }
    let looked = look(app).await;
    let mut seen = locked(&app.watched.0);
    let before = (
        seen.away.take(),
        seen.blocks.front().map(|header| header.height),
    );
    match looked {
        Ok((members, headers, evidence)) => {
            for header in headers {
                seen.blocks.push_front(header);
            }
            seen.blocks.truncate(STRIP);
            seen.members = members;
            seen.evidence = evidence;
        }
        Err(why) => seen.away = Some(why),
    }
    let after = (
        seen.away.clone(),
        seen.blocks.front().map(|header| header.height),
    );
    drop(seen);
    if before != after {
        app.watched_changed();
    }
}

async fn look(app: &App) -> Result<(Vec<Member>, Vec<Header>, usize), String> {
    let client = app.network.client();
    let said = |error: client::ClientError| client::sentence(&error);
    let top = client.height().await.map_err(said)?;
    let held = client.institutions().await.map_err(said)?;
    let nodes = client.nodes();
    let asked = held.iter().map(|held| async {
        let voter = nodes.by_institution(held.institution.id).is_some();
        let status = match voter {
            true => client.status(held.institution.id).await.ok(),
            false => None,
        };
        (held.institution.id, status)
    });
    let statuses: BTreeMap<_, _> = join_all(asked).await.into_iter().collect();
    // Any node counts who led; one that lags counts less.
    let counts = statuses
        .values()
        .flatten()
        .max_by_key(|status| status.height);
    let led = |id: InstitutionId| {
        let mut of = counts.into_iter().flat_map(|status| &status.led);
        of.find(|led| led.institution == id.number())
            .map_or(0, |led| led.blocks)
    };
    let evidence = counts.map_or(0, |status| status.evidence);
    let members = held
        .iter()
        .map(|held| {
            let id = held.institution.id;
            let status = statuses.get(&id).and_then(Option::as_ref);
            Member {
                id,
                name: held.institution.name.to_string(),
                tier: held.institution.tier,
                key: nodes
                    .by_institution(id)
                    .map_or(held.institution.node, |node| node.key),
                votes: nodes.by_institution(id).is_some(),
                height: status.map(|status| status.height),
                release: status.map_or_else(String::new, |status| status.release.clone()),
                led: led(id),
            }
        })
        .collect();
    let last = locked(&app.watched.0)
        .blocks
        .front()
        .map(|header| header.height);
    let far = Height::new(top.number().saturating_sub(STRIP as u64 - 1).max(1));
    let mut from = last.map_or(far, |last| last.next().max(far));
    let mut headers: Vec<Header> = Vec::new();
    while from <= top && headers.len() < AT_ONCE {
        // The newest block's certificate can come with the next block.
        let Ok(some) = client.headers(from).await else {
            break;
        };
        let Some(end) = some.last().map(|header| header.height) else {
            break;
        };
        headers.extend(some);
        from = end.next();
    }
    Ok((members, headers, evidence))
}

/// Routes that everybody's pages have.
pub(crate) fn pages(app: &Shared) -> Router {
    Router::new()
        .route("/consortium", get(overview))
        .route("/consortium/blocks/{height}", get(block))
        .route("/consortium/transactions/{id}", get(transaction))
        .route("/consortium/evidence", get(evidence))
        .with_state(app.clone())
}

/// The first page of who has no keystore.
pub(crate) fn first(app: &Shared) -> Router {
    Router::new()
        .route("/", get(overview))
        .with_state(app.clone())
}

#[derive(Template)]
#[template(path = "consortium.html")]
struct Overview {
    f: Frame,
    members: Vec<MemberRow>,
    seats: Vec<Seat>,
    arcs: Vec<Arc>,
    blocks: Vec<BlockRow>,
    away: Option<String>,
    quorum: String,
    evidence: usize,
    nothing_yet: bool,
}

struct MemberRow {
    number: u32,
    name: String,
    tier: &'static str,
    role: &'static str,
    state: &'static str,
    state_text: String,
    led: u64,
    release: String,
}

struct Seat {
    x: f64,
    y: f64,
    label_y: f64,
    kind: &'static str,
    number: u32,
}

struct Arc {
    path: String,
    kind: &'static str,
}

struct BlockRow {
    height: u64,
    tier: &'static str,
    leader: String,
    transactions: usize,
    when: String,
}

fn tier(language: Language, tier: Tier) -> &'static str {
    match tier {
        Tier::Tertiary => language.of("tertiary hospital", "三级医院"),
        Tier::Secondary => language.of("secondary hospital", "二级医院"),
        Tier::Community => language.of("community hospital", "社区医院"),
        Tier::Observer => language.of("observer", "观察者"),
    }
}

fn role(language: Language, tier: Tier) -> &'static str {
    match tier.role() {
        Role::Accounting => language.of("leads and votes", "轮流记账并投票"),
        Role::Verification => language.of("votes", "投票验证"),
        Role::Observation => language.of("follows", "只旁观"),
    }
}

fn class(tier: Tier) -> &'static str {
    match tier {
        Tier::Tertiary => "tertiary",
        Tier::Secondary => "secondary",
        Tier::Community => "community",
        Tier::Observer => "observer",
    }
}

async fn overview(State(app): State<Shared>) -> Response {
    let language = app.language();
    let here = if app.lock.is_some() { "consortium" } else { "" };
    let mut f = Frame::live(&app, language.of("The consortium", "医院联盟"), here);
    f.version = app.version_with_chain();
    let mut seen = locked(&app.watched.0);
    seen.wanted = Some(Instant::now());
    let leader = seen.blocks.front().map(|header| header.producer);
    let top = seen
        .members
        .iter()
        .filter_map(|member| member.height)
        .max()
        .unwrap_or(0);
    let members: Vec<MemberRow> = seen
        .members
        .iter()
        .map(|one| row(language, one, top))
        .collect();
    let voters: Vec<&Member> = seen.members.iter().filter(|one| one.votes).collect();
    let (mut seats, mut arcs) = (Vec::new(), Vec::new());
    for (place, member) in voters.iter().enumerate() {
        let kind = match member.height {
            None => "lost",
            Some(_) if Some(member.key) == leader => "leads",
            Some(_) => "there",
        };
        let (seat, arc) = on_the_ring(place, voters.len(), kind, member.id.number());
        seats.push(seat);
        arcs.push(arc);
    }
    let blocks = seen
        .blocks
        .iter()
        .map(|header| block_row(language, header, &seen.members));
    let there = voters.iter().filter(|one| one.height.is_some()).count();
    let needed = voters.len() - voters.len().saturating_sub(1) / 3;
    let quorum = match language {
        Language::English => format!(
            "{there} of {} voting hospitals answer; {needed} are needed for a block.",
            voters.len()
        ),
        Language::Chinese => {
            format!(
                "{} 家投票医院中有 {there} 家应答；出块需要 {needed} 家。",
                voters.len()
            )
        }
    };
    page(Overview {
        f,
        members,
        seats,
        arcs,
        blocks: blocks.collect(),
        away: seen.away.clone(),
        quorum,
        evidence: seen.evidence,
        nothing_yet: seen.members.is_empty(),
    })
}

fn row(language: Language, member: &Member, top: u64) -> MemberRow {
    let (state, state_text) = match member.height {
        _ if !member.votes => (
            "none",
            language
                .of("no seat in this epoch", "本期无席位")
                .to_owned(),
        ),
        None => (
            "refused",
            language.of("does not answer", "没有应答").to_owned(),
        ),
        Some(height) if height + 8 < top => (
            "waiting",
            match language {
                Language::English => format!("{} blocks behind", top - height),
                Language::Chinese => format!("落后 {} 个区块", top - height),
            },
        ),
        Some(_) => ("final", language.of("takes part", "正常参与").to_owned()),
    };
    MemberRow {
        number: member.id.number(),
        name: member.name.clone(),
        tier: tier(language, member.tier),
        role: role(language, member.tier),
        state,
        state_text,
        led: member.led,
        release: member.release.clone(),
    }
}

fn block_row(language: Language, header: &Header, members: &[Member]) -> BlockRow {
    let leader = members.iter().find(|member| member.key == header.producer);
    BlockRow {
        height: header.height.number(),
        tier: leader.map_or("", |leader| class(leader.tier)),
        leader: leader.map_or_else(
            || language.of("an earlier key", "以前的密钥").to_owned(),
            |leader| leader.name.clone(),
        ),
        transactions: header.count as usize,
        when: ago(language, header.time.number(), now().number()),
    }
}

/// Where a hospital's seat and its arc of the circle are drawn: a box of 400 by 400, the first on top.
fn on_the_ring(place: usize, of: usize, kind: &'static str, number: u32) -> (Seat, Arc) {
    use std::f64::consts::TAU;
    let turn = |part: f64| TAU * part / of.max(1) as f64 - TAU / 4.0;
    let at = |angle: f64, radius: f64| (200.0 + radius * angle.cos(), 200.0 + radius * angle.sin());
    let (x, y) = at(turn(place as f64), 150.0);
    let half = 0.43;
    let (from_x, from_y) = at(turn(place as f64 - half), 110.0);
    let (to_x, to_y) = at(turn(place as f64 + half), 110.0);
    let large = u8::from(2.0 * half / of.max(1) as f64 > 0.5);
    let path = format!("M{from_x:.1} {from_y:.1}A110 110 0 {large} 1 {to_x:.1} {to_y:.1}");
    let seat = Seat {
        x,
        y,
        label_y: y + 5.0,
        kind,
        number,
    };
    (seat, Arc { path, kind })
}

#[derive(Template)]
#[template(path = "block.html")]
struct BlockPage {
    f: Frame,
    before: Option<u64>,
    after: u64,
    header: Vec<(&'static str, String, bool)>,
    transactions: Vec<TransactionRow>,
    levels: Vec<Vec<Node>>,
    leader: String,
    count: u32,
}

struct TransactionRow {
    id: String,
    kind: &'static str,
    bytes: usize,
}

/// A hash of the Merkle tree.
struct Node {
    hash: String,
    on: bool,
}

fn kind(language: Language, kind: Kind) -> &'static str {
    match kind {
        Kind::Application => language.of("application", "入盟申请"),
        Kind::Registration => language.of("registration of keys", "密钥登记"),
        Kind::WriterEpoch => language.of("writer epoch", "写入期"),
        Kind::Record => language.of("record", "病历"),
        Kind::Request => language.of("request", "查阅申请"),
        Kind::Grant => language.of("grant", "授权"),
        Kind::Access => language.of("access", "查阅"),
        Kind::Revocation => language.of("revocation", "撤销授权"),
        Kind::Withdrawal => language.of("withdrawal of an agent", "撤回代理"),
        Kind::CertificateRevocation => language.of("revocation of a certificate", "吊销证书"),
        Kind::Anchor => language.of("anchor", "锚定"),
        Kind::NodeKey => language.of("node's key", "节点密钥"),
        Kind::CentreKey => language.of("registration centre's key", "注册中心密钥"),
        Kind::Motion => language.of("motion", "提案"),
        Kind::Approval => language.of("approval", "赞成"),
        Kind::Succession => language.of("next keys of an institution", "机构换密钥"),
        Kind::Contact => language.of("where an institution is reached", "机构联系地址"),
        _ => language.of("of a later release", "更新版本的类型"),
    }
}

async fn read(app: &App, height: u64) -> Result<Option<(Header, Block)>, client::ClientError> {
    let client = app.network.client();
    let header = client
        .headers(Height::new(height))
        .await?
        .into_iter()
        .next();
    match header {
        None => Ok(None),
        Some(header) => Ok(Some((header, client.block(&header).await?))),
    }
}

fn unavailable(app: &App, error: &client::ClientError) -> Response {
    message(
        app,
        axum::http::StatusCode::BAD_GATEWAY,
        app.language()
            .of("The nodes do not give it", "节点没有给出内容"),
        client::sentence(error),
    )
}

async fn block(State(app): State<Shared>, Path(height): Path<u64>) -> Response {
    let language = app.language();
    let (header, block) = match read(&app, height).await {
        Ok(Some(found)) => found,
        Ok(None) => return missing(&app),
        Err(error) => return unavailable(&app, &error),
    };
    let leader = leader(&app, &header).await;
    let here = app.network.consortium();
    let hex = |bytes: &[u8]| hex::encode(bytes);
    let rows = vec![
        (language.of("Height", "高度"), height.to_string(), false),
        (
            language.of("Hash of this block", "本块哈希"),
            hex(header.id().as_bytes()),
            true,
        ),
        (
            language.of("Hash of the previous block", "前一区块哈希"),
            hex(header.previous.as_bytes()),
            true,
        ),
        (
            language.of("Time", "时间"),
            moment(language, header.time.number()),
            false,
        ),
        (
            language.of("Block size", "区块大小"),
            format!("{} B", header.size),
            false,
        ),
        (
            language.of("Transactions", "交易数"),
            header.count.to_string(),
            false,
        ),
        (
            language.of("Merkle root", "默克尔根"),
            hex(header.merkle_root.as_bytes()),
            true,
        ),
        (
            language.of("State root", "状态根"),
            hex(header.state_root.as_bytes()),
            true,
        ),
        (
            language.of("Validator epoch", "节点期"),
            header.epoch.number().to_string(),
            false,
        ),
        (
            language.of("View", "视图"),
            header.view.number().to_string(),
            false,
        ),
        (
            language.of("Producer's key", "出块节点公钥"),
            hex(header.producer.as_bytes()),
            true,
        ),
        (
            language.of("Producer's signature", "出块节点签名"),
            hex(header.signature.as_bytes()),
            true,
        ),
    ];
    let transactions: Vec<TransactionRow> = block
        .transactions()
        .iter()
        .map(|one| TransactionRow {
            id: hex(one.id(&here).as_bytes()),
            kind: kind(language, one.kind()),
            bytes: one.encode().len(),
        })
        .collect();
    let title = match language {
        Language::English => format!("Block {height}"),
        Language::Chinese => format!("区块 {height}"),
    };
    page(BlockPage {
        f: Frame::new(&app, &title, "consortium"),
        before: height.checked_sub(1).filter(|before| *before > 0),
        after: height + 1,
        leader,
        count: header.count,
        header: rows,
        transactions,
        levels: tree(&block, None),
    })
}

/// Who made a block: whose node had its producer's key in that epoch.
async fn leader(app: &App, header: &Header) -> String {
    let nodes = app.network.client().nodes_of(header.epoch);
    match nodes.by_key(&header.producer) {
        Some(node) => app.network.name_of(node.institution).await,
        None => hex::encode(header.producer.as_bytes()),
    }
}

/// Levels of a body's Merkle tree that a page shows, from the root, and of each level at most 16 hashes.
fn tree(block: &Block, of: Option<usize>) -> Vec<Vec<Node>> {
    const SHOWN: usize = 16;
    let levels = block.merkle_levels();
    let mut shown = Vec::new();
    for (depth, level) in levels.iter().enumerate() {
        let on = of.map(|leaf| leaf >> depth);
        let first = on.map_or(0, |on| {
            on.saturating_sub(SHOWN / 2)
                .min(level.len().saturating_sub(SHOWN))
        });
        let nodes = level.iter().enumerate().skip(first).take(SHOWN);
        let nodes = nodes.map(|(place, hash)| Node {
            hash: hex::encode(hash.as_bytes()),
            on: on == Some(place),
        });
        shown.push(nodes.collect());
    }
    shown.reverse();
    shown
}

#[derive(Template)]
#[template(path = "transaction.html")]
struct TransactionPage {
    f: Frame,
    id: String,
    kind: &'static str,
    height: u64,
    checks: Vec<Check>,
    levels: Vec<Vec<Node>>,
    signers: Vec<String>,
    bytes: String,
}

/// A step of a proof, computed here.
struct Check {
    what: String,
    shown: String,
}

/// Computes a transaction's proof in front of the reader: what one node gave, checked by this machine.
async fn transaction(State(app): State<Shared>, Path(id): Path<String>) -> Response {
    let language = app.language();
    let mut bytes = [0; 32];
    if hex::decode_to_slice(&id, &mut bytes).is_err() {
        return missing(&app);
    }
    let wanted = TransactionId::new(bytes);
    let client = app.network.client();
    let found = match client.transaction(wanted).await {
        Ok(found) => found,
        Err(error) => return unavailable(&app, &error),
    };
    let (header, block) = match read(&app, found.height.number()).await {
        Ok(Some(read)) => read,
        Ok(None) => return missing(&app),
        Err(error) => return unavailable(&app, &error),
    };
    let here = app.network.consortium();
    let place = block
        .transactions()
        .iter()
        .position(|one| one.id(&here) == wanted);
    let encoded = found.transaction.encode();
    let leaves = block.merkle_levels();
    let leaf = place
        .and_then(|place| leaves.first()?.get(place))
        .map(|leaf| hex::encode(leaf.as_bytes()));
    let root = leaves
        .last()
        .and_then(|top| top.first())
        .map(|root| hex::encode(root.as_bytes()));
    let checks = vec![
        Check {
            what: language.of(
                "The transaction's bytes hash to its id.",
                "交易字节的哈希等于交易号。",
            ).to_owned(),
            shown: hex::encode(found.transaction.id(&here).as_bytes()),
        },
        Check {
            what: language.of(
                "They hash to a leaf of the block's Merkle tree.",
                "它们的哈希是区块默克尔树的一片叶子。",
            ).to_owned(),
            shown: leaf.unwrap_or_default(),
        },
        Check {
            what: language.of(
                "The leaf and its neighbours hash up to the root in the header.",
                "叶子与相邻哈希逐层合成区块头中的根。",
            ).to_owned(),
            shown: root.unwrap_or_default(),
        },
        Check {
            what: language.of(
                "The header's producer signed it.",
                "区块头由出块节点签名。",
            ).to_owned(),
            shown: hex::encode(header.producer.as_bytes()),
        },
        Check {
            what: language.of(
                "More than two thirds of the hospitals' nodes signed that this block, or one after it that names it by hash, is final.",
                "超过三分之二的医院节点签名确认：此区块，或以哈希指向它的后续区块，已最终确定。",
            ).to_owned(),
            shown: hex::encode(header.id().as_bytes()),
        },
    ];
    let signers: BTreeSet<_> = client
        .nodes_of(header.epoch)
        .nodes()
        .iter()
        .map(|node| node.institution)
        .collect();
    let mut names = Vec::new();
    for signer in signers {
        names.push(app.network.name_of(signer).await);
    }
    let title = language.of("A transaction and its proof", "一笔交易及其证明");
    page(TransactionPage {
        f: Frame::new(&app, title, "consortium"),
        id,
        kind: kind(language, found.transaction.kind()),
        height: found.height.number(),
        checks,
        levels: tree(&block, place),
        signers: names,
        bytes: hex::encode(&encoded[..encoded.len().min(256)]),
    })
}

#[derive(Template)]
#[template(path = "evidence.html")]
struct EvidencePage {
    f: Frame,
    pieces: Vec<(String, String, u64)>,
}

async fn evidence(State(app): State<Shared>) -> Response {
    let language = app.language();
    let pieces = match app.network.client().evidence().await {
        Ok(pieces) => pieces,
        Err(error) => return unavailable(&app, &error),
    };
    let mut shown = Vec::new();
    for piece in pieces {
        let nodes = app.network.client().nodes_of(piece.epoch);
        let name = match nodes.by_key(&piece.node) {
            Some(node) => app.network.name_of(node.institution).await,
            None => hex::encode(piece.node.as_bytes()),
        };
        let offence = match piece.offence {
            Offence::ConflictingPrepare => language.of(
                "two prepare votes for different blocks of one view",
                "同一视图对两个区块投了准备票",
            ),
            Offence::ConflictingCommit => language.of(
                "two commit votes for different blocks of one view",
                "同一视图对两个区块投了提交票",
            ),
            Offence::SkipAndCommit => language.of(
                "a vote to skip a view, and one for its block",
                "既投票跳过视图，又投票提交其区块",
            ),
        };
        shown.push((name, offence.to_owned(), piece.view.number()));
    }
    page(EvidencePage {
        f: Frame::new(&app, language.of("Evidence", "证据"), "consortium/evidence"),
        pieces: shown,
    })
}
