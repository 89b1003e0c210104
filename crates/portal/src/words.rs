//! The two languages of the pages. A template holds both forms of each text side by side; what has parts
//! that change is a function here or beside its page.

use record::SectionClass;

/// In which language the pages speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    English,
    Chinese,
}

impl Language {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::English => 0,
            Self::Chinese => 1,
        }
    }

    pub(crate) fn of_code(code: u8) -> Self {
        if code == 1 {
            Self::Chinese
        } else {
            Self::English
        }
    }

    /// BCP 47.
    pub(crate) fn tag(self) -> &'static str {
        self.of("en", "zh-Hans")
    }

    /// The form of a text in this language.
    pub(crate) fn of<'a>(self, english: &'a str, chinese: &'a str) -> &'a str {
        match self {
            Self::English => english,
            Self::Chinese => chinese,
        }
    }

    /// A section class as people call it.
    pub(crate) fn class(self, class: SectionClass) -> &'static str {
        match class {
            SectionClass::Homepage => self.of("personal details", "个人信息"),
            SectionClass::History => self.of("medical history", "病史"),
            SectionClass::Examination => self.of("examinations", "体格检查"),
            SectionClass::Laboratory => self.of("laboratory results", "检验结果"),
            SectionClass::Imaging => self.of("imaging", "影像检查"),
            SectionClass::Medication => self.of("medication", "用药记录"),
            SectionClass::Procedures => self.of("procedures", "手术与操作"),
            SectionClass::Notes => self.of("notes", "病程记录"),
            SectionClass::Discharge => self.of("discharge papers", "出院资料"),
            SectionClass::Other => self.of("other documents", "其他资料"),
        }
    }

    /// Several things in one phrase.
    pub(crate) fn list(self, parts: &[String]) -> String {
        match (self, parts) {
            (_, []) => String::new(),
            (_, [one]) => one.clone(),
            (Self::English, [rest @ .., last]) => format!("{} and {last}", rest.join(", ")),
            (Self::Chinese, _) => parts.join("、"),
        }
    }

    /// Section classes in one phrase; all of them have one of their own.
    pub(crate) fn classes(self, classes: &[SectionClass]) -> String {
        if SectionClass::ALL
            .iter()
            .all(|class| classes.contains(class))
        {
            return self.of("everything", "全部内容").to_owned();
        }
        let names: Vec<String> = classes
            .iter()
            .map(|class| self.class(*class).to_owned())
            .collect();
        self.list(&names)
    }

    /// A doctor as the chain knows one.
    pub(crate) fn doctor(self, id: u64, hospital: &str) -> String {
        match self {
            Self::English => format!("Doctor {id} at {hospital}"),
            Self::Chinese => format!("{hospital}的 {id} 号医生"),
        }
    }

    /// A doctor of the own hospital.
    pub(crate) fn colleague(self, id: u64) -> String {
        match self {
            Self::English => format!("Doctor {id}"),
            Self::Chinese => format!("{id} 号医生"),
        }
    }

    /// Doctors of the own hospital in one phrase.
    pub(crate) fn colleagues(self, ids: &[u64]) -> String {
        let names: Vec<String> = ids.iter().map(|id| self.colleague(*id)).collect();
        self.list(&names)
    }

    /// What a step of the program is called while it runs; as it is if it has no form here.
    pub(crate) fn step(self, english: &str) -> &str {
        let chinese = match english {
            "sealing the record" => "正在本机加密病历",
            "storing it in the cloud" => "正在存入云端",
            "building its index: the hospital's server raises blinded points only" => {
                "正在建立索引：医院服务器只处理盲化的点"
            }
            "recording it on the chain" => "正在记入联盟链",
            "searching for it as others will" => "正在按他人的方式检索核对",
            "recording the request on the chain" => "正在把申请记入联盟链",
            "sending it to the patient's inbox" => "正在送达患者信箱",
            "making the grants" | "making the grant" => "正在生成授权",
            "giving them to the accounting hospitals and to the chain, and telling the doctors"
            | "giving it to the accounting hospitals and to the chain, and telling the doctors" => {
                "正在把授权交给记账医院和联盟链，并通知医生"
            }
            "giving it to the accounting hospitals and to the chain, and telling the doctors and the patient" => {
                "正在把授权交给记账医院和联盟链，并通知医生和患者"
            }
            "recording the revocation on the chain" => "正在把撤销记入联盟链",
            "telling the doctors" => "正在通知医生",
            "searching at the accounting hospitals' nodes" => "正在记账医院的节点上检索",
            "recording the access on the chain" => "正在把本次查阅记入联盟链",
            "fetching the container and t hospitals' shares" => "正在取回密文和各医院的份额",
            "fetching the container from the cloud" => "正在从云端取回密文",
            "checking a receipt against the chain and its container" => "正在核对收据与链上记录",
            "asking the colleagues to join" => "正在邀请同事加入",
            "reading the chain" => "正在读取联盟链",
            "sending on what an earlier command could not"
            | "sending on what was begun under the keys before" => "正在发送之前未能送达的内容",
            "keeping the directory with the registration centre" => "正在把目录加密存入注册中心",
            "finishing an access that was begun before" => "正在完成之前开始的查阅",
            "withdrawing the appointments that were made under the keys before" => {
                "正在撤回在原有密钥下所作的委托"
            }
            "taking over the mailboxes at the hospitals" => "正在接管各医院的信箱",
            "opening an inbox with a code of its own, and closing the one before" => {
                "正在开通新信箱并关闭原信箱"
            }
            "finishing what the takeover left" => "正在完成接管的剩余步骤",
            "asking the registration centre" => "正在询问注册中心",
            "making keys on this device, and giving their public halves to the centre" => {
                "正在本机生成密钥，并把公钥交给注册中心"
            }
            "making a pseudonym on this device" => "正在本机生成假名",
            "recording the withdrawal on the chain" => "正在把撤回记入联盟链",
            _ => english,
        };
        self.of(english, chinese)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_as_people_say_it() {
        let parts = |count: usize| -> Vec<String> {
            ["a", "b", "c"][..count]
                .iter()
                .map(|one| (*one).to_owned())
                .collect()
        };
        assert_eq!(Language::English.list(&parts(1)), "a");
        assert_eq!(Language::English.list(&parts(3)), "a, b and c");
        assert_eq!(Language::Chinese.list(&parts(3)), "a、b、c");
        assert_eq!(Language::English.classes(&SectionClass::ALL), "everything");
    }
}
