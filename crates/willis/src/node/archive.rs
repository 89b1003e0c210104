//! The file of a backup of a chain: what the founders signed, the node's configuration, evidence, and
//! the blocks with their certificates. Everything in it is public to the consortium's members; of keys,
//! shares and votes there is nothing.
//!
//! Layout, integers big-endian, var(x) its length as u32 and x:
//!
//! ```text
//! "WILLIS-CHAIN-BACKUP"  version u16 = 1
//! var(founding document)  var(directory of services)
//! count u16, for each signature of the directory: institution u32, signature 64
//! var(configuration)  var(evidence, as a node answers it)
//! for each block after the founding block: 1 u8, var(block), 0 u8 or 1 u8 and var(certificate)
//! 0 u8, height of the last block u64, its id 32
//! SHA-256 of all before 32
//! ```

use std::io::{self, Read, Write};

use ledger::BlockId;
use ledger::Height;
use scheme::DigestStream;
use thiserror::Error;

const MAGIC: &[u8] = b"WILLIS-CHAIN-BACKUP";
/// The version of the layout. A reader refuses any other.
const VERSION: u16 = 1;
/// The longest founding document, configuration and directory are 2 MiB; evidence has at most 1.5 MiB.
const PART_BYTES_MAX: usize = 2 << 20;
/// The longest block: the settings allow a body of 64 MiB.
const BLOCK_BYTES_MAX: usize = (64 << 20) + 264;
const CERTIFICATE_BYTES_MAX: usize = 32 << 10;

/// Why a file is no whole backup.
#[derive(Debug, Error)]
pub(crate) enum ArchiveError {
    #[error("it cannot be read or written: {0}; check the path, its permissions and the disk")]
    Io(#[source] io::Error),
    #[error("it is no backup of a chain")]
    NoBackup,
    #[error(
        "it is of version {0}, and this program reads version {VERSION}: use a program of that time"
    )]
    Version(u16),
    #[error("it is cut short: use another copy")]
    Cut,
    #[error("it was changed since it was written: use another copy")]
    Changed,
}

/// What precedes the blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Preface {
    pub(crate) founding: Vec<u8>,
    pub(crate) directory: Vec<u8>,
    pub(crate) signatures: Vec<(u32, [u8; 64])>,
    pub(crate) configuration: Vec<u8>,
    pub(crate) evidence: Vec<u8>,
}

/// Writes a backup.
pub(crate) struct ArchiveWriter<W> {
    out: W,
    digest: DigestStream,
}

impl<W: Write> ArchiveWriter<W> {
    pub(crate) fn begin(out: W, preface: &Preface) -> Result<Self, ArchiveError> {
        let mut writer = Self {
            out,
            digest: DigestStream::new(),
        };
        writer.bytes(MAGIC)?;
        writer.bytes(&VERSION.to_be_bytes())?;
        writer.var(&preface.founding)?;
        writer.var(&preface.directory)?;
        let count = u16::try_from(preface.signatures.len());
        let count = count.expect("a consortium has at most 255 founders");
        writer.bytes(&count.to_be_bytes())?;
        for (institution, signature) in &preface.signatures {
            writer.bytes(&institution.to_be_bytes())?;
            writer.bytes(signature)?;
        }
        writer.var(&preface.configuration)?;
        writer.var(&preface.evidence)?;
        Ok(writer)
    }

    pub(crate) fn block(
        &mut self,
        block: &[u8],
        certificate: Option<&[u8]>,
    ) -> Result<(), ArchiveError> {
        self.bytes(&[1])?;
        self.var(block)?;
        match certificate {
            None => self.bytes(&[0]),
            Some(certificate) => {
                self.bytes(&[1])?;
                self.var(certificate)
            }
        }
    }

    /// Gives the output back, with everything written to it.
    pub(crate) fn end(mut self, height: Height, block: &BlockId) -> Result<W, ArchiveError> {
        self.bytes(&[0])?;
        self.bytes(&height.number().to_be_bytes())?;
        self.bytes(block.as_bytes())?;
        let digest = self.digest.finish();
        self.out
            .write_all(digest.as_bytes())
            .map_err(ArchiveError::Io)?;
        self.out.flush().map_err(ArchiveError::Io)?;
        Ok(self.out)
    }

    fn var(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        let length = u32::try_from(bytes.len()).expect("parts are bounded far below 4 GiB");
        self.bytes(&length.to_be_bytes())?;
        self.bytes(bytes)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.digest.update(bytes);
        self.out.write_all(bytes).map_err(ArchiveError::Io)
    }
}

/// Reads a backup. Nothing that it gave counts before [`Self::next`] said that the end was whole.
pub(crate) struct ArchiveReader<R> {
    from: R,
    digest: DigestStream,
}

/// A part of the chain in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// The next block.
    Block {
        block: Vec<u8>,
        certificate: Option<Vec<u8>>,
    },
    /// There is no further one, this was the last, and the file is as it was written.
    End { height: Height, block: BlockId },
}

impl<R: Read> ArchiveReader<R> {
    pub(crate) fn begin(from: R) -> Result<(Self, Preface), ArchiveError> {
        let mut reader = Self {
            from,
            digest: DigestStream::new(),
        };
        let magic = reader.bytes(MAGIC.len()).map_err(|error| match error {
            ArchiveError::Cut => ArchiveError::NoBackup,
            error => error,
        })?;
        if magic != MAGIC {
            return Err(ArchiveError::NoBackup);
        }
        let version = u16::from_be_bytes(reader.array()?);
        if version != VERSION {
            return Err(ArchiveError::Version(version));
        }
        let founding = reader.var(PART_BYTES_MAX)?;
        let directory = reader.var(PART_BYTES_MAX)?;
        let count = u16::from_be_bytes(reader.array()?);
        let signatures = (0..count)
            .map(|_| Ok((u32::from_be_bytes(reader.array()?), reader.array()?)))
            .collect::<Result<_, ArchiveError>>()?;
        let configuration = reader.var(PART_BYTES_MAX)?;
        let evidence = reader.var(PART_BYTES_MAX)?;
        let preface = Preface {
            founding,
            directory,
            signatures,
            configuration,
            evidence,
        };
        Ok((reader, preface))
    }

    pub(crate) fn next(&mut self) -> Result<Part, ArchiveError> {
        match self.array::<1>()? {
            [1] => {
                let block = self.var(BLOCK_BYTES_MAX)?;
                let certificate = match self.array::<1>()? {
                    [0] => None,
                    [1] => Some(self.var(CERTIFICATE_BYTES_MAX)?),
                    _ => return Err(ArchiveError::Changed),
                };
                Ok(Part::Block { block, certificate })
            }
            [0] => {
                let height = Height::new(u64::from_be_bytes(self.array()?));
                let block = BlockId::new(self.array()?);
                let found = std::mem::replace(&mut self.digest, DigestStream::new()).finish();
                let stated = self.array::<32>()?;
                let more = self.from.read(&mut [0]).map_err(ArchiveError::Io)?;
                if stated != *found.as_bytes() || more != 0 {
                    return Err(ArchiveError::Changed);
                }
                Ok(Part::End { height, block })
            }
            _ => Err(ArchiveError::Changed),
        }
    }

    fn var(&mut self, bytes_max: usize) -> Result<Vec<u8>, ArchiveError> {
        let length = u32::from_be_bytes(self.array()?) as usize;
        if length > bytes_max {
            return Err(ArchiveError::Changed);
        }
        self.bytes(length)
    }

    /// Memory grows with what is there, not with what a length says.
    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = Vec::new();
        let found = (&mut self.from).take(length as u64).read_to_end(&mut bytes);
        if found.map_err(ArchiveError::Io)? < length {
            return Err(ArchiveError::Cut);
        }
        self.digest.update(&bytes);
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ArchiveError> {
        let bytes = self.bytes(N)?;
        Ok(bytes.try_into().expect("as many as were asked for"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preface() -> Preface {
        Preface {
            founding: b"founding".to_vec(),
            directory: b"directory".to_vec(),
            signatures: vec![(1, [1; 64]), (2, [2; 64])],
            configuration: b"institution = 1".to_vec(),
            evidence: vec![0; 5],
        }
    }

    fn written() -> Vec<u8> {
        let mut writer = ArchiveWriter::begin(Vec::new(), &preface()).unwrap();
        writer.block(&[7; 300], None).unwrap();
        writer.block(&[8; 264], Some(&[9; 50])).unwrap();
        writer.end(Height::new(2), &BlockId::new([3; 32])).unwrap()
    }

    fn read(bytes: &[u8]) -> Result<(Preface, Vec<Part>), ArchiveError> {
        let (mut reader, preface) = ArchiveReader::begin(bytes)?;
        let mut parts = Vec::new();
        while !matches!(parts.last(), Some(Part::End { .. })) {
            parts.push(reader.next()?);
        }
        Ok((preface, parts))
    }

    #[test]
    fn a_whole_file_gives_what_was_written() {
        let (found, parts) = read(&written()).unwrap();
        assert_eq!(found, preface());
        let block = |byte, length, certificate| Part::Block {
            block: vec![byte; length],
            certificate,
        };
        let end = Part::End {
            height: Height::new(2),
            block: BlockId::new([3; 32]),
        };
        let expected = [block(7, 300, None), block(8, 264, Some(vec![9; 50])), end];
        assert_eq!(parts, expected);
    }

    #[test]
    fn attack_cut_a_backup_short_or_change_a_bit_of_it() {
        let whole = written();
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length} bytes");
        }
        for at in 0..whole.len() {
            for bit in [0, 7] {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                assert!(read(&changed).is_err(), "bit {bit} of byte {at}");
            }
        }
        let longer = [whole, vec![0]].concat();
        assert!(matches!(read(&longer), Err(ArchiveError::Changed)));
        assert!(matches!(
            read(b"something else"),
            Err(ArchiveError::NoBackup)
        ));
    }

    #[test]
    fn another_version_is_named() {
        let mut other = written();
        other[MAGIC.len() + 1] = 2;
        let refused = read(&other).unwrap_err().to_string();
        assert!(refused.contains("version 2"), "{refused}");
    }
}
