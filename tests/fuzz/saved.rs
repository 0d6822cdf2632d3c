//! The folder of saved beginnings of prompts, in which anything may lie.

use std::cell::RefCell;
use std::fs::{self, DirEntry};
use std::sync::LazyLock;
use tempfile::TempDir;
use wick_core::{Engine, HeadRows, KV_TILE, KvFormat, Logits, Options, Serial};
use wick_serve::saved::{Folder, SavedPrefixes};
use wick_session::{Prefix, PrefixStore, Request};
use wick_tests::tiny::Tiny;
use wick_tests::{Model, ids};

/// Bytes of all tiles at most, and of a day.
const MOST: u64 = 1 << 20;

static MODEL: LazyLock<Model> = LazyLock::new(|| Model::read(&[Tiny::default().to_bytes().leak()]));

/// A prompt of two tiles, as it was computed and as it was saved.
struct Computed {
    /// What has computed it.
    engine: Engine<'static>,
    tiles: Vec<Vec<u8>>,
    files: Vec<(String, Vec<u8>)>,
}

thread_local! {
    static COMPUTED: RefCell<Computed> = RefCell::new(compute());
}

fn compute() -> Computed {
    let folder = TempDir::new().expect("a folder");
    let mut engine = engine();
    let ids = prompt();
    engine.prefill(0, &ids, Logits::None).expect("a step");
    open(&folder).evict(&engine, 0, Prefix { ids: &ids, owner: Request::ANYBODY });
    let read = |entry: DirEntry| {
        let name = entry.file_name().into_string().expect("a name");
        (name, fs::read(entry.path()).expect("a file"))
    };
    let mut files: Vec<_> = folder.path().read_dir().expect("files").flatten().map(read).collect();
    files.sort();
    assert_eq!(files.iter().filter(|(name, _)| name.ends_with(".kv")).count(), 2);
    let tiles = (0..2).map(|tile| save(&engine, tile)).collect();
    Computed { engine, tiles, files }
}

fn engine() -> Engine<'static> {
    let (head_rows, kv) = (HeadRows::Exact, KvFormat::F16);
    let options =
        Options { context: 3 * KV_TILE, sequences: 1, batch: 64, logits: 1, head_rows, kv };
    MODEL.engine(options, &Serial)
}

fn prompt() -> Vec<u32> {
    ids(2 * KV_TILE, MODEL.config.vocab)
}

fn open(folder: &TempDir) -> SavedPrefixes {
    SavedPrefixes::new(Folder::open(folder.path(), MOST, MOST).expect("a folder"), b"tiny")
}

/// A folder with other bytes in its files, and other files: what is read back is what was saved, or nothing.
pub fn saved(bytes: &[u8]) {
    COMPUTED.with_borrow_mut(|computed| restore_edited(computed, bytes));
}

fn restore_edited(computed: &mut Computed, bytes: &[u8]) {
    let folder = TempDir::new().expect("a folder");
    let mut files = computed.files.clone();
    let mut edits = bytes.chunks_exact(4);
    for edit in &mut edits {
        let at = usize::from(edit[0]) % files.len();
        let (name, content) = &mut files[at];
        let place = usize::from(u16::from_le_bytes([edit[1], edit[2]]));
        match edit[0] >> 6 {
            0 if place < 32 => content.resize(place, edit[3]),
            1 => name.insert(place % (name.len() + 1), char::from(edit[3] & 0x7f)),
            _ if place < content.len() => content[place] = edit[3],
            _ => content.push(edit[3]),
        }
    }
    files.push(("written-today".into(), bytes.to_vec()));
    for (name, content) in &files {
        let _no_name = fs::write(folder.path().join(name.replace(['/', '\0'], "_")), content);
    }
    restore(&folder, computed);
}

fn restore(folder: &TempDir, computed: &mut Computed) {
    let Computed { engine, tiles, .. } = computed;
    engine.truncate(0, 0).expect("nothing to forget");
    let ids = prompt();
    open(folder).restore(engine, 0, Prefix { ids: &ids, owner: Request::ANYBODY });
    let held = engine.len(0);
    assert!(held.is_multiple_of(KV_TILE) && held <= ids.len());
    (0..held / KV_TILE).for_each(|tile| assert!(save(engine, tile) == tiles[tile], "tile {tile}"));
}

fn save(engine: &Engine<'_>, tile: usize) -> Vec<u8> {
    let mut bytes = vec![0; engine.tile_bytes().whole];
    let len = engine.save_tile(0, tile, &mut bytes).expect("a tile that is held");
    bytes.truncate(len);
    bytes
}
