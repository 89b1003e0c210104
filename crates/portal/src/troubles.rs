//! What went wrong, in the page's language. Programs and services say it in English, whatever their caller
//! speaks; pages in Chinese say what it means and what to do, with the English sentence beside it, which whoever is
//! asked for help can search for.

use askama::Template;

use crate::words::Language;

/// A part of an English sentence, and what the sentence says. The first that is found counts, so the more
/// special one comes first; a test finds each in the source that says it.
const MEANINGS: &[(&str, &str)] = &[
    // this machine and its keystore
    (
        "does not open: the passphrase is wrong",
        "口令不正确，或密钥文件已被改动。请重新输入口令。",
    ),
    ("the keystore was locked", "密钥已锁定。请解锁后重试。"),
    (
        "the two passphrases differ",
        "两次输入的口令不一致。请输入相同的口令。",
    ),
    (
        "characters: take a sentence that only you know",
        "口令太短。请使用只有您知道的一句话。",
    ),
    (
        "is in use by another program",
        "密钥文件正被另一个程序使用。请先关闭该程序。",
    ),
    (
        "is there already and is not overwritten",
        "该位置已有密钥文件，不会被覆盖。请换一个位置。",
    ),
    (
        "these are not the 24 words of a backup",
        "这不是备份的 24 个单词。请核对每个单词及其顺序。",
    ),
    (
        "does not open with these words",
        "用这些单词无法打开已保存的内容：单词属于他人，或保存的副本已损坏。",
    ),
    (
        "another device with your 24 words",
        "使用同一组 24 个单词的另一台设备保存了更新的内容。请在那台设备上继续，或用单词恢复本机。",
    ),
    (
        "48 MiB: nothing was changed",
        "密钥文件已达上限，未作任何改动。新的内容请使用另一个密钥文件。",
    ),
    (
        "keystore holds as many",
        "此密钥文件已达上限。请等待部分内容结束，或使用另一个密钥文件。",
    ),
    (
        "check the path, its permissions and the disk",
        "文件无法读取或写入。请检查路径、权限和磁盘。",
    ),
    (
        "holds files already, and none is overwritten",
        "该文件夹中已有文件，不会被覆盖。请选择另一个文件夹。",
    ),
    // what was typed
    ("choose who you are", "请选择您的身份。"),
    ("choose your hospital", "请选择所在医院。"),
    (
        "choose at least one kind of content",
        "请至少选择一类内容。",
    ),
    (
        "choose what may be read and for how long",
        "请选择可查阅的内容及期限。",
    ),
    (
        "choose a stay, and for how many days",
        "请选择就诊以及天数（1 至 3660）。",
    ),
    (
        "no section was chosen",
        "尚未选择内容。请选择需要查阅的内容。",
    ),
    (
        "the purpose is missing",
        "缺少申请理由。患者将据此作出决定。",
    ),
    (
        "why you look for this patient",
        "请用 1 至 200 字节说明查找该患者的理由，患者会看到。",
    ),
    (
        "there is no file to store",
        "没有可保存的文件。请先添加文件。",
    ),
    (
        "the short one has eight letters and digits",
        "这不是编码。短码为八位字母和数字，完整编码为 64 位数字。请重新询问。",
    ),
    (
        "no inbox has this short code now",
        "目前没有信箱使用此短码。短码十分钟内有效，请患者重新生成。",
    ),
    (
        "too many short codes are looked for",
        "查询短码过于频繁。请一分钟后再试。",
    ),
    (
        "in place of the present ones: ask its officer",
        "注册中心即将启用新密钥。请先请工作人员拒绝该申请。",
    ),
    (
        "code has 64 hexadecimal digits",
        "编码应为 64 位十六进制数字。请重新扫描或完整复制。",
    ),
    (
        "this is no hospital's code",
        "这不是医院给出的编码。编码分三段，请完整复制。",
    ),
    (
        "offer has 160 hexadecimal digits",
        "代理人编码应为 160 位十六进制数字。请完整复制。",
    ),
    ("the name is missing", "缺少姓名。"),
    ("the date of birth is missing", "缺少出生日期。"),
    ("the kind of document is missing", "缺少证件类型。"),
    ("the document's number is missing", "缺少证件号码。"),
    ("the licence's number is missing", "缺少执业证书编号。"),
    // registration
    (
        "has not certified this patient yet",
        "注册中心尚未认证该患者。请稍候，或向注册中心出示证件。",
    ),
    (
        "has not certified this doctor yet",
        "注册中心尚未认证该医生。请稍候，或向注册中心出示证件。",
    ),
    (
        "has not certified the present keys",
        "注册中心尚未认证现有密钥，没有可接管的内容。",
    ),
    (
        "no patient with this document lets doctors find them",
        "没有同意被查找且证件相符的患者。请核对证件类型、号码和出生日期，或向患者或家属索取编码。",
    ),
    (
        "you looked for patients twenty times",
        "您一小时内已查找二十次。请向患者索取编码，或一小时后再试。",
    ),
    (
        "four enrolments under this key wait already",
        "此密钥已有四项登记在等待。请等待注册中心处理。",
    ),
    (
        "renew it at the registration centre",
        "证书已到期或已失效。请到注册中心续期。",
    ),
    (
        "was revoked: ask the registration centre",
        "证书已被吊销。请联系注册中心。",
    ),
    (
        "key is not in force on the chain",
        "医生的密钥当前在联盟链上无效。请该医生续期。",
    ),
    // stays and records
    (
        "the hospital has blocked this doctor",
        "医院已停用该医生。请咨询医院服务台。",
    ),
    (
        "the episode is begun, and its doctor does not have it yet",
        "就诊已开始，但医生尚未收到。将自动重新发送。",
    ),
    (
        "there is no episode under this UID on this device",
        "本机没有此就诊编号的就诊。请用 24 个单词恢复。",
    ),
    (
        "no such UID",
        "医院没有此就诊编号，或它属于他人。请核对编号。",
    ),
    (
        "this hospital has no such doctor",
        "医院没有该医生，或该医生已被停用。请选择其他医生。",
    ),
    ("the mailbox is full", "信箱已满。请等对方取走后再发送。"),
    (
        "the hospital's writer epoch does not stand on the chain yet",
        "医院的写入密钥尚未上链。请稍后重试。",
    ),
    (
        "is final, says the hospital's server",
        "医院称病历已最终确认，节点尚未到达该区块。将自动继续。",
    ),
    (
        "is handed in and not final yet",
        "病历已提交，尚未最终确认。将自动继续。",
    ),
    (
        "that record is not final yet",
        "该病历尚未最终确认。确认后方可更正。",
    ),
    (
        "an amendment stands in the same one",
        "更正必须与原病历属于同一次就诊。",
    ),
    (
        "the consortium refused the record",
        "联盟拒绝了该病历。请重新保存。",
    ),
    ("the consortium refused the request", "联盟拒绝了该申请。"),
    (
        "nothing was recorded: try again",
        "云存储的回执无效，未作任何记录。请重试。",
    ),
    (
        "does not fit the record on the chain",
        "医生的收据与链上记录不符。请向医院投诉。",
    ),
    (
        "is not the one that stands on the chain: nothing of it is shown",
        "云端文件与链上登记的不符，已被改动，不予显示。请通知医院信息部门恢复。",
    ),
    (
        "whose digest stands on the chain: nothing of it is shown",
        "云端文件与链上登记的不符，已被改动，不予显示。请通知医院信息部门恢复。",
    ),
    (
        "the cloud altered it or cut it short",
        "云端文件已被改动或截断，不予打开。请通知存储它的医院。",
    ),
    (
        "the cloud no longer has the container",
        "云端已没有该病历的文件。请联系存储它的医院。",
    ),
    (
        "an opened section is not what was sealed",
        "打开的内容与封存时不一致，不予显示。",
    ),
    (
        "no receipt of this device names that record",
        "本机没有该病历的收据。",
    ),
    // asking and granting
    (
        "the request can be answered for fewer episodes",
        "该申请可授权的就诊次数较少。请医生重新申请。",
    ),
    ("was answered before", "该申请已答复，或不是发给此信箱的。"),
    (
        "this request was answered or has ended",
        "该申请已答复或已结束。",
    ),
    (
        "there is no such inbox",
        "没有此信箱。请向患者重新索取编码。",
    ),
    (
        "the inbox was closed",
        "该信箱已关闭。请向患者索取新的编码。",
    ),
    (
        "this request was sent before",
        "该申请已发送过。请等待答复，或重新申请。",
    ),
    (
        "the request's time is too far from now",
        "申请时间与当前时间相差过大。请检查时钟后重新申请。",
    ),
    (
        "the request did not reach the query manager in its time",
        "申请未能按时送达查询管理方。请重新申请。",
    ),
    ("no grant answers this request yet", "该申请尚无授权答复。"),
    (
        "and on its way no further than this",
        "申请已保存，但尚未送达。将自动重新发送。",
    ),
    (
        "and not everywhere yet",
        "授权已生成并保存，尚未送达所有节点。将自动继续。",
    ),
    (
        "the grant is revoked, but its doctors could not be told",
        "授权已撤销，但未能通知医生。",
    ),
    (
        "accounting nodes took the grant",
        "接收授权的节点不足。请稍后重试。",
    ),
    ("this grant has expired", "授权已到期。请再次向患者申请。"),
    (
        "the patient revoked this grant",
        "患者已撤销该授权，不能再打开任何内容。",
    ),
    (
        "was revoked or has expired, by the chain",
        "授权已撤销或到期。请重新向患者申请。",
    ),
    (
        "this grant does not grant that section class",
        "该授权不包括这类内容。如有需要请再向患者申请。",
    ),
    (
        "appointment has ended or was withdrawn",
        "家属代理委托已结束或已撤回。请由患者授权。",
    ),
    (
        "the appointment does not cover that section class",
        "代理委托不包括这类内容。",
    ),
    (
        "the appointment ends before that",
        "代理委托在此之前结束。请缩短授权期限。",
    ),
    (
        "the appointment is not for this agent",
        "该委托不是给此代理人的。请重新提供编码并请患者委托。",
    ),
    (
        "nodes that hold the grant's shares are left",
        "持有授权份额的节点不足。请再次向患者申请。",
    ),
    (
        "every proof holds: the author or the granter is at fault",
        "各份额均有效，但内容无法打开：作者或授权人有误。请向其投诉。",
    ),
    (
        "the chain has no such grant",
        "联盟链上没有该授权，也没有查阅记录。",
    ),
    (
        "an access to another record is on its way",
        "另一份病历的查阅仍在进行。请先完成。",
    ),
    // teams
    ("a team has", "团队人数超过上限。请减少同事。"),
    (
        "what a colleague wants signed is not what was joined",
        "同事要求签署的内容与您加入的不同，未签署任何内容。",
    ),
    ("of a colleague", "同事发来的消息无效。"),
    // services and network
    (
        "no node of the consortium answers",
        "联盟节点均无应答。请检查网络。",
    ),
    (
        "does not answer: try again",
        "服务无应答。请重试；如仍无效，请检查网络。",
    ),
    (
        "shows a TLS certificate that is not valid",
        "服务出示的证书无效，未发送任何内容。请咨询其运营方。",
    ),
    (
        "does not accept the TLS certificate that was shown",
        "服务不接受本方证书。请续期，或向其查询是否已被吊销。",
    ),
    ("nodes that answered agree", "应答一致的节点不足。请重试。"),
    ("cannot answer at height", "节点尚未到达所需区块。请重试。"),
    (
        "too many calls from this address",
        "调用过于频繁。请稍后重试。",
    ),
    (
        "tell IT if that does not help",
        "医院服务器暂时无法签署。请稍后重试；如仍无效，请通知医院信息部门。",
    ),
    ("try again in a moment", "服务暂时繁忙。请稍后重试。"),
    ("try again in a minute", "服务繁忙。请一分钟后重试。"),
    ("is malformed", "收到的内容格式有误，未予采用。"),
];

/// What is said of anything else.
const UNKNOWN: &str = "操作未能完成，原因见下方英文说明。";

#[derive(Template)]
#[template(path = "trouble.html")]
struct Trouble<'a> {
    meaning: Option<&'static str>,
    said: &'a str,
}

/// Of an English sentence what it means, for pages in Chinese.
fn meaning(said: &str) -> &'static str {
    let found = MEANINGS.iter().find(|(part, _)| said.contains(part));
    found.map_or(UNKNOWN, |(_, meaning)| meaning)
}

/// A paragraph that says what went wrong, as HTML.
pub(crate) fn paragraph(language: Language, said: &str) -> String {
    let meaning = (language == Language::Chinese).then(|| meaning(said));
    let said = said.trim_end_matches('.');
    Trouble { meaning, said }.render().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn read(folder: &Path, sources: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, sources);
            } else if path.extension().is_some_and(|end| end == "rs")
                && !path.ends_with("troubles.rs")
            {
                sources.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }

    /// Each part still stands in a sentence that some program says.
    #[test]
    fn whatever_has_a_meaning_is_said_somewhere() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut sources = String::new();
        for one in ["client", "parties", "portal", "services", "workstation"] {
            read(&crates.join(one).join("src"), &mut sources);
        }
        for (part, _) in MEANINGS {
            // "{what} is missing", of which the field's name stands alone.
            let said = match part.strip_suffix(" is missing") {
                Some(field) if *part != "the purpose is missing" => format!("\"{field}\")"),
                _ => (*part).to_owned(),
            };
            assert!(sources.contains(&said), "nobody says {part:?} any more");
        }
    }

    #[test]
    fn a_sentence_is_shown_as_text_in_both_languages() {
        let said = "no node of the consortium answers: check the <b>network</b>.";
        let english = paragraph(Language::English, said);
        assert!(
            english.contains("check the &#60;b&#62;network"),
            "{english}"
        );
        assert!(!english.contains("联盟"));
        let chinese = paragraph(Language::Chinese, said);
        assert!(chinese.contains("请检查网络") && chinese.contains("lang=\"en\""));
        assert!(!chinese.contains("<b>"), "{chinese}");
        assert!(paragraph(Language::Chinese, "something new").contains(UNKNOWN));
    }
}
