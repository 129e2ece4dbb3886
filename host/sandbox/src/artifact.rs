//! The compiled form of a component: the machine code as wasmtime serializes it, followed by our trailer. The trailer says
//! which program made it and from what, and has a checksum over everything, so that a damaged file differs from one that
//! another version made. Entries of the cache and `.cwasm` files are such artifacts.
//!
//! ```text
//! [ELF of wasmtime][trailer, JSON][length of the trailer, u32 little endian]["WASMHOST"]
//! ```

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use wasmhost_base::panics::caught;
use wasmhost_config::Tier;

use super::engine::{self, Allocation, EngineKind};
use super::hex::hex;
use super::source::{Description, Problem};

/// Tells builds of this program apart that could write different artifacts for one component, though their version is the
/// same: made of the sources that decide what is in one. The same sources give the same number.
pub(super) const FORMAT: u64 = fingerprint(&[
    include_bytes!("artifact.rs"),
    include_bytes!("compile.rs"),
    include_bytes!("engine.rs"),
    include_bytes!("source.rs"),
]);

/// FNV-1a, 64 bits.
const fn fingerprint(sources: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let (mut source, mut byte) = (0, 0);
    while source < sources.len() {
        if byte < sources[source].len() {
            hash = (hash ^ sources[source][byte] as u64).wrapping_mul(0x0100_0000_01b3);
            byte += 1;
        } else {
            hash = (hash ^ 0x100).wrapping_mul(0x0100_0000_01b3);
            (source, byte) = (source + 1, 0);
        }
    }
    hash
}

const MAGIC: &[u8; 8] = b"WASMHOST";
/// Longer trailers are not ours.
const TRAILER_MAX: u32 = 1 << 20;

/// What the trailer says.
#[derive(Debug, Serialize, Deserialize)]
struct Trailer {
    /// Version of wasmhost that compiled it.
    wasmhost: String,
    /// `engine::compatibility` of the engine that compiled it.
    compatibility: String,
    imports: Vec<String>,
    exports: Vec<String>,
    producers: Vec<String>,
    marked_reusable: bool,
    concurrent: bool,
    /// SHA-256, in hex, of the component.
    component_sha256: String,
    /// How it was compiled.
    tier: Tier,
    /// SHA-256, in hex, of the machine code and then of this trailer as it stands with an empty sum.
    sha256: String,
}

/// Machine code that was just compiled.
pub(super) struct NewCode {
    bytes: Vec<u8>,
    tier: Tier,
    /// `engine::compatibility` of the engine that compiled it.
    compatibility: String,
}

impl NewCode {
    /// Compiles a component whose description is complete. What the baseline compiler cannot compile is optimised.
    pub(super) fn of(component: &[u8], description: &Description, wanted: Tier) -> wasmtime::Result<Self> {
        let by = |tier| {
            let kind = EngineKind { concurrent: description.concurrent, tier };
            let engine = engine::engine(kind, &Allocation::OnDemand)?;
            let bytes = engine.precompile_component(component)?;
            Ok(Self { bytes, tier, compatibility: engine::compatibility(&engine) })
        };
        match wanted {
            Tier::Optimised => by(wanted),
            // (At what it does not know it may panic.)
            Tier::Baseline => match caught(|| by(wanted)) {
                Ok(Ok(code)) => Ok(code),
                Ok(Err(_)) | Err(_) => by(Tier::Optimised),
            },
        }
    }
}

/// Writes an artifact to `output`, which is empty.
pub(super) fn write(output: &mut impl Write, code: &NewCode, description: &Description) -> std::io::Result<()> {
    let mut trailer = Trailer {
        wasmhost: env!("CARGO_PKG_VERSION").to_owned(),
        compatibility: code.compatibility.clone(),
        tier: code.tier,
        sha256: String::new(),
        imports: description.imports.clone(),
        exports: description.exports.clone(),
        producers: description.producers.clone(),
        marked_reusable: description.marked_reusable,
        concurrent: description.concurrent,
        component_sha256: description.sha256.clone(),
    };
    let mut hasher = Sha256::new();
    hasher.update(&code.bytes);
    hasher.update(serde_json::to_vec(&trailer)?);
    trailer.sha256 = hex(&hasher.finalize());
    let trailer = serde_json::to_vec(&trailer)?;
    let length = u32::try_from(trailer.len()).unwrap_or(u32::MAX);
    output.write_all(&code.bytes)?;
    output.write_all(&trailer)?;
    output.write_all(&length.to_le_bytes())?;
    output.write_all(MAGIC)?;
    output.flush()
}

/// Why an artifact cannot be used.
#[derive(Debug)]
pub(super) enum Unusable {
    /// It is not complete, or not ours.
    Damaged(String),
    /// Another version, other settings or another CPU.
    Foreign(String),
}

impl Unusable {
    pub(super) fn into_problem(self) -> Problem {
        let again = "compile the component again on this machine: `wasmhost compile app.wasm -o app.cwasm`";
        match self {
            Self::Damaged(what) => Problem::new(
                format!("the compiled component is damaged or was not made by `wasmhost compile`: {what}"),
                again,
            ),
            Self::Foreign(what) => {
                Problem::new(format!("the compiled component does not fit this host: {what}"), again)
            }
        }
    }
}

impl Trailer {
    /// The kind of engine that it is for.
    fn kind(&self) -> EngineKind {
        EngineKind { concurrent: self.concurrent, tier: self.tier }
    }
}

impl From<Trailer> for Description {
    fn from(trailer: Trailer) -> Self {
        Self {
            imports: trailer.imports,
            exports: trailer.exports,
            producers: trailer.producers,
            marked_reusable: trailer.marked_reusable,
            concurrent: trailer.concurrent,
            sha256: trailer.component_sha256,
        }
    }
}

/// Checks an artifact's whole content, for an engine of the kind that it says that it needs. Tells what it was made from, and
/// how.
pub(super) fn check(path: &Path) -> Result<(Description, Tier), Problem> {
    let (mut file, code_bytes, trailer) = opened(path).map_err(Unusable::into_problem)?;
    let here = engine::compatibility_here(trailer.kind())?;
    let trailer = check_whole(&mut file, code_bytes, trailer, here).map_err(Unusable::into_problem)?;
    let tier = trailer.tier;
    Ok((trailer.into(), tier))
}

/// Tells what an artifact was made from, and how, whose content was checked before.
pub(super) fn trust(path: &Path) -> Result<(Description, Tier), Problem> {
    let (_, _, trailer) = opened(path).map_err(Unusable::into_problem)?;
    check_fits(&trailer, engine::compatibility_here(trailer.kind())?).map_err(Unusable::into_problem)?;
    let tier = trailer.tier;
    Ok((trailer.into(), tier))
}

/// Why a host in production does not serve code of the baseline compiler.
pub(super) fn not_optimised() -> Problem {
    Problem::new(
        "its code was compiled for `wasmhost dev`, without optimisation",
        "compile the component with `wasmhost compile`, or serve it as it is",
    )
}

fn opened(path: &Path) -> Result<(File, u64, Trailer), Unusable> {
    let mut file = File::open(path).map_err(unreadable)?;
    let (code_bytes, trailer) = read_trailer(&mut file)?;
    Ok((file, code_bytes, trailer))
}

/// Maps the code of an artifact that [`check`] found whole.
pub(super) fn map(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    #[expect(
        unsafe_code,
        reason = "mapping machine code: whoever made the file is trusted with the process, as the help says; its checksum was compared, and the cache directory is ours alone"
    )]
    // SAFETY: the file is the unchanged output of `Engine::precompile_component` by a compatible engine, as far as a
    // checksum can show.
    let component = unsafe { Component::deserialize_file(engine, path) };
    component
}

/// Why an artifact could not be mapped.
pub(super) fn unmappable(error: &wasmtime::Error) -> Problem {
    Unusable::Foreign(error.to_string().lines().next().unwrap_or_default().to_owned()).into_problem()
}

fn unreadable(error: std::io::Error) -> Unusable {
    Unusable::Damaged(error.to_string())
}

/// Reads the trailer; also the size of the code before it.
fn read_trailer(file: &mut (impl Read + Seek)) -> Result<(u64, Trailer), Unusable> {
    let no_trailer = || Unusable::Damaged("its end is missing".to_owned());
    let size = file.seek(SeekFrom::End(0)).map_err(unreadable)?;
    let footer_bytes = 12_u64;
    let footer_at = size.checked_sub(footer_bytes).ok_or_else(no_trailer)?;
    file.seek(SeekFrom::Start(footer_at)).map_err(unreadable)?;
    let mut footer = [0_u8; 12];
    file.read_exact(&mut footer).map_err(unreadable)?;
    let (length, magic) = footer.split_at(4);
    let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
    if magic != MAGIC || length > TRAILER_MAX {
        return Err(no_trailer());
    }
    let code_bytes = footer_at.checked_sub(length.into()).ok_or_else(no_trailer)?;
    file.seek(SeekFrom::Start(code_bytes)).map_err(unreadable)?;
    let mut trailer = vec![0_u8; length as usize];
    file.read_exact(&mut trailer).map_err(unreadable)?;
    let trailer = serde_json::from_slice(&trailer).map_err(|error| unknown_trailer(&trailer, &error))?;
    Ok((code_bytes, trailer))
}

/// Why a trailer cannot be used that does not say what this version's says: another version wrote it, or nobody.
fn unknown_trailer(trailer: &[u8], error: &serde_json::Error) -> Unusable {
    /// What every version has written.
    #[derive(Deserialize)]
    struct AnyTrailer {
        wasmhost: String,
    }
    match serde_json::from_slice::<AnyTrailer>(trailer) {
        Ok(other) => not_of_this_version(&other.wasmhost),
        Err(_) => Unusable::Damaged(error.to_string()),
    }
}

fn not_of_this_version(wasmhost: &str) -> Unusable {
    Unusable::Foreign(format!(
        "it was compiled by wasmhost {wasmhost} with another version of wasmtime, other settings or for another CPU"
    ))
}

/// Compares what the trailer says with an engine of compatibility `here`.
fn check_fits(trailer: &Trailer, here: &str) -> Result<(), Unusable> {
    if trailer.compatibility == here { Ok(()) } else { Err(not_of_this_version(&trailer.wasmhost)) }
}

/// Compares what the trailer says with an engine of compatibility `here` and with the whole file.
fn check_whole(
    file: &mut (impl Read + Seek),
    code_bytes: u64,
    mut trailer: Trailer,
    here: &str,
) -> Result<Trailer, Unusable> {
    check_fits(&trailer, here)?;
    file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    let mut hasher = Sha256::new();
    std::io::copy(&mut file.by_ref().take(code_bytes), &mut hasher).map_err(unreadable)?;
    let sum = std::mem::take(&mut trailer.sha256);
    hasher.update(serde_json::to_vec(&trailer).map_err(|error| Unusable::Damaged(error.to_string()))?);
    if hex(&hasher.finalize()) != sum {
        return Err(Unusable::Damaged("its checksum is wrong".to_owned()));
    }
    Ok(trailer)
}

/// What can be told of an artifact without running it.
pub struct Survey {
    /// Version of wasmhost that compiled it.
    pub wasmhost: String,
    /// The kind of CPU that the code is for.
    pub cpu: &'static str,
    /// Size of the machine code.
    pub code_bytes: u64,
    /// Size of it all.
    pub bytes: u64,
    /// What it was made from.
    pub description: Description,
    /// Why it cannot be used here, if so.
    pub problem: Option<Problem>,
}

/// Looks at an artifact; one without a trailer of ours is an error.
pub fn survey(file: &mut (impl Read + Seek)) -> Result<Survey, Problem> {
    let (code_bytes, trailer) = read_trailer(file).map_err(Unusable::into_problem)?;
    let here = engine::compatibility_here(trailer.kind())?;
    let (_, to_check) = read_trailer(file).map_err(Unusable::into_problem)?;
    let problem = check_whole(file, code_bytes, to_check, here).err().map(Unusable::into_problem);
    let problem = problem.or_else(|| (trailer.tier == Tier::Baseline).then(not_optimised));
    let io = |error| unreadable(error).into_problem();
    // `e_machine`, at the same place in ELF files of 32 and 64 bits; wasmtime writes it in the byte order of the CPU that
    // the code is for, and both that it knows here are little endian.
    let mut machine = [0_u8; 2];
    file.seek(SeekFrom::Start(18)).map_err(io)?;
    file.read_exact(&mut machine).map_err(io)?;
    Ok(Survey {
        wasmhost: trailer.wasmhost.clone(),
        cpu: match u16::from_le_bytes(machine) {
            62 => "x86-64",
            183 => "aarch64",
            _ => "unknown",
        },
        code_bytes,
        bytes: file.seek(SeekFrom::End(0)).map_err(io)?,
        description: trailer.into(),
        problem,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_other_source_has_another_fingerprint() {
        let prints = [
            fingerprint(&[]),
            fingerprint(&[b""]),
            fingerprint(&[b"ab"]),
            fingerprint(&[b"a", b"b"]),
            fingerprint(&[b"", b"ab"]),
            fingerprint(&[b"ab", b"c"]),
        ];
        for (nth, print) in prints.iter().enumerate() {
            assert!(!prints[..nth].contains(print), "{nth}");
        }
        assert_eq!(fingerprint(&[b"a"]), fingerprint(&[b"a"]));
    }

    /// What a file is taken for that ends with this trailer.
    fn unusable(trailer: &[u8]) -> Option<Unusable> {
        let length = u32::try_from(trailer.len()).unwrap_or(u32::MAX).to_le_bytes();
        let file = [b"code", trailer, &length, MAGIC].concat();
        read_trailer(&mut std::io::Cursor::new(file)).err()
    }

    #[test]
    fn an_artifact_with_another_versions_trailer_is_foreign_and_not_damaged() {
        let old = unusable(br#"{"wasmhost":"0.0.1","compatibility":"x","unknown":1}"#);
        assert!(matches!(&old, Some(Unusable::Foreign(what)) if what.contains("wasmhost 0.0.1")), "{old:?}");
        for nobodys in [&b"{}"[..], b"[]", b"", br#"{"wasmhost":1}"#] {
            assert!(matches!(unusable(nobodys), Some(Unusable::Damaged(_))), "{nobodys:?}");
        }
    }
}
