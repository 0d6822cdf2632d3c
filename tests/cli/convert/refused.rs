//! What `wick convert` refuses, and what it need not refuse.

use super::{Copy, contents, write_shard};
use crate::program::{fails, stdout, wick};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

/// What a file cannot say, or what contradicts itself, is one clear line.
#[test]
fn what_config_says_is_checked() {
    for (name, key, value, text) in [
        ("small", "hidden_size", Value::Null, "missing field `hidden_size`"),
        ("small", "hidden_size", json!("32"), "config.json: invalid type"),
        (
            "small",
            "hidden_size",
            json!(64),
            "model.embed_tokens.weight: 320 x 64 weights expected by config.json, 320 x 32 found",
        ),
        ("small", "rms_norm_eps", json!(0), "config.json: RMSNorm epsilon"),
        (
            "small",
            "architectures",
            json!(["LlamaForCausalLM"]),
            "architectures: SmallThinkerForCausalLM expected, \"LlamaForCausalLM\" found",
        ),
        (
            "small",
            "rope_layout",
            json!([1, 1, 0, 1, 1]),
            "rope_layout: 1 expected for layer 2, 0 found",
        ),
        (
            "small",
            "rope_layout",
            json!([1, 1, 1, 1]),
            "rope_layout: 5 entries expected, one for each layer, 4 found",
        ),
        (
            "small",
            "rope_layout",
            json!([1, 1, 1, 1, 2]),
            "rope_layout: 0 or 1 expected, 2 found for layer 4",
        ),
        (
            "small",
            "sliding_window_layout",
            json!([0, 1, 1, 1, 0]),
            "rope_layout: 0 expected for layer 0, 1 found",
        ),
        (
            "large",
            "sliding_window_layout",
            json!([0, 1, 1, 0, 0]),
            "sliding_window_layout: 1 expected for layer 3, 0 found",
        ),
        (
            "large",
            "rope_layout",
            json!([1, 1, 1, 1, 1]),
            "rope_layout: 0 expected for layer 0, 1 found",
        ),
        ("large", "sliding_window_size", Value::Null, "sliding_window_size: missing"),
        (
            "small",
            "rope_scaling",
            json!({"rope_type": "yarn", "factor": 4.0}),
            "RoPE scaling is not supported",
        ),
        (
            "small",
            "tie_word_embeddings",
            json!(false),
            "lm_head.weight: missing, although config.json says that it is not tied",
        ),
        (
            "small",
            "moe_enable_early_router",
            json!(false),
            "moe_enable_early_router: true expected, false found",
        ),
        (
            "small",
            "moe_enable_secondary_experts",
            json!(true),
            "moe_enable_secondary_experts: false expected",
        ),
        (
            "small",
            "model_type",
            json!("llama"),
            "model_type: smallthinker expected, \"llama\" found",
        ),
        (
            "small",
            "partial_rotary_factor",
            json!(0.5),
            "partial_rotary_factor: 1 expected, 0.5 found",
        ),
        (
            "small",
            "rope_parameters",
            json!({"partial_rotary_factor": 0.5}),
            "partial_rotary_factor: 1 expected",
        ),
        ("small", "rope_parameters", json!({"rope_theta": "x"}), "config.json: invalid type"),
        ("small", "rope_parameters", json!({"rope_type": "yarn"}), "RoPE scaling is not supported"),
        ("small", "rope_parameters", json!(5), "config.json: invalid type"),
        (
            "large",
            "sliding_window_size",
            json!(1u64 << 32),
            "sliding_window_size: at most 4294967295 expected",
        ),
        ("small", "num_hidden_layers", json!(4), "rope_layout: 4 entries expected"),
        (
            "small",
            "num_hidden_layers",
            json!(u64::MAX),
            "rope_layout: 18446744073709551615 entries expected",
        ),
        ("small", "vocab_size", json!(u64::MAX), "config.json: vocabulary"),
        ("small", "moe_num_primary_experts", json!(1u64 << 40), "config.json: experts"),
        (
            "small",
            "moe_num_primary_experts",
            json!(3),
            "model.layers.0.block_sparse_moe.primary_router.weight: 3 x 32 weights expected",
        ),
        (
            "small",
            "moe_num_primary_experts",
            json!(5),
            "model.layers.0.block_sparse_moe.primary_router.weight: 5 x 32 weights expected",
        ),
        ("small", "moe_num_active_primary_experts", json!(5), "config.json: active experts"),
        ("small", "num_key_value_heads", json!(3), "config.json: query heads"),
        ("small", "vocab_size", json!(300), "300 x 32 weights expected"),
    ] {
        let copy = Copy::of(name);
        copy.change("config.json", |config| match value {
            Value::Null => drop(config.as_object_mut().unwrap().remove(key)),
            value => config[key] = value,
        });
        copy.refuses(3, text);
    }
    // What is left out means what the modelling code takes it for.
    let copy = Copy::of("large");
    let all = [&["--type", "q4_0"][..]].concat();
    stdout(&copy.convert(&all));
    let before = contents(Path::new(&copy.out()));
    copy.change("config.json", |config| {
        let config = config.as_object_mut().unwrap();
        let theta = config.remove("rope_theta").unwrap();
        config
            .insert("rope_parameters".into(), json!({"rope_theta": theta, "rope_type": "default"}));
        for key in ["tie_word_embeddings", "rope_scaling", "model_type"] {
            config.remove(key);
        }
    });
    stdout(&copy.convert(&all));
    assert_eq!(contents(Path::new(&copy.out())), before);
}

#[test]
fn what_the_tokenizer_says_is_checked() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change, &str); 17] = [
        (
            "tokenizer.json",
            |t| drop(t["model"]["vocab"].as_object_mut().unwrap().remove("th")),
            "tokenizer.json: ",
        ),
        (
            "tokenizer.json",
            |t| t["model"]["merges"][1] = t["model"]["merges"][0].clone(),
            "tokenizer.json: ",
        ),
        (
            "tokenizer.json",
            |t| t["model"]["merges"][0] = json!("#version: 0.2"),
            "tokenizer.json: ",
        ),
        ("tokenizer.json", |t| t["model"]["merges"][0] = json!("x y"), "tokenizer.json: "),
        (
            "tokenizer.json",
            |t| t["post_processor"] = json!({"type": "TemplateProcessing"}),
            "one that may add tokens found",
        ),
        (
            "tokenizer_config.json",
            |t| t["add_eos_token"] = json!(true),
            "add_eos_token: false expected",
        ),
        (
            "tokenizer_config.json",
            |t| t["added_tokens_decoder"] = json!({"299": {"content": "<|end|>"}}),
            "299 is \"<|end|>\", but \"<|im_end|>\" in tokenizer.json",
        ),
        (
            "tokenizer_config.json",
            |t| {
                t["chat_template"] =
                    json!([{"name": "a", "template": "x"}, {"name": "a", "template": "y"}])
            },
            "two templates are called \"a\"",
        ),
        ("tokenizer.json", |t| t["model"]["type"] = json!("Unigram"), "model: BPE expected"),
        (
            "tokenizer.json",
            |t| t["model"]["byte_fallback"] = json!(true),
            "byte-level BPE expected",
        ),
        (
            "tokenizer.json",
            |t| t["normalizer"] = json!({"type": "NFKC"}),
            "normalizer: NFC or none expected",
        ),
        (
            "tokenizer.json",
            |t| t["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!("\\s+"),
            "that of Qwen2 expected",
        ),
        (
            "tokenizer.json",
            |t| t["model"]["merges"][0] = json!("abc"),
            "merges: two tokens expected",
        ),
        ("tokenizer.json", |t| t["added_tokens"][0]["id"] = json!(298), "have the same id, 298"),
        (
            "tokenizer.json",
            |t| t["added_tokens"][0]["id"] = json!(320),
            "has id 320, but config.json has a vocab_size of 320",
        ),
        (
            "tokenizer_config.json",
            |t| t["eos_token"] = json!("<|end|>"),
            "\"<|end|>\" is no token of tokenizer.json",
        ),
        (
            "generation_config.json",
            |t| t["eos_token_id"] = json!([1, 2]),
            "at most two ends of a sequence besides",
        ),
    ];
    for (file, change, text) in cases {
        let copy = Copy::of("small");
        copy.change(file, change);
        copy.refuses(3, text);
    }
    // One more end is the end of a turn; a list and a name say the same as before.
    let copy = Copy::of("small");
    copy.change("generation_config.json", |t| t["eos_token_id"] = json!([299, 300]));
    stdout(&copy.convert(&[]));
    let found = contents(Path::new(&copy.out()));
    assert_eq!(found["tokenizer.ggml.eot_token_id"], "U32(300)");
    assert_eq!(found["tokenizer.ggml.eos_token_id"], "U32(299)");
    // A template in a file of its own stands in place of the other; more have names.
    copy.change("tokenizer_config.json", |t| t["chat_template"] = json!("other"));
    fs::create_dir(copy.file("additional_chat_templates")).unwrap();
    fs::write(copy.file("additional_chat_templates/rag.jinja"), "documents").unwrap();
    stdout(&copy.convert(&[]));
    let templates = contents(Path::new(&copy.out()));
    assert_eq!(templates["tokenizer.chat_template"], found["tokenizer.chat_template"]);
    assert!(templates.contains_key("tokenizer.chat_template.rag"));
}

/// Nothing is written over what is read.
#[test]
fn inputs_stay() {
    let copy = Copy::of("small");
    fs::create_dir(copy.file("additional_chat_templates")).unwrap();
    fs::write(copy.file("additional_chat_templates/rag.jinja"), "documents").unwrap();
    for name in [
        "config.json",
        "chat_template.jinja",
        "additional_chat_templates/rag.jinja",
        "model.safetensors.index.json",
        "model-00002-of-00002.safetensors",
    ] {
        let before = fs::read(copy.file(name)).unwrap();
        let (folder, out) = (copy.file("").display().to_string(), copy.file(name));
        let refused = wick(&["convert", &folder, "-o", &out.display().to_string()]);
        fails(&refused, 2, "is the input; name another file");
        assert!(fs::read(out).unwrap() == before);
    }
}

#[test]
fn what_is_missing_or_broken_is_named() {
    let copy = Copy::of("small");
    let [first, second] = [1, 2].map(|i| format!("model-0000{i}-of-00002.safetensors"));
    let whole = fs::read(copy.file(&second)).unwrap();
    fs::remove_file(copy.file(&second)).unwrap();
    copy.refuses(3, "model-00002-of-00002.safetensors: no such file, though model.safetensors.index.json names it");
    // Without an index, all files are read.
    fs::remove_file(copy.file("model.safetensors.index.json")).unwrap();
    copy.refuses(3, "in none of the safetensors files; is one of them missing?");
    for cut in [0, 7, 100, whole.len() - 1] {
        fs::write(copy.file(&second), &whole[..cut]).unwrap();
        copy.refuses(3, if cut == 0 { "the file is empty" } else { "a safetensors file expected" });
    }
    fs::write(copy.file(&second), &whole).unwrap();
    stdout(&copy.convert(&[]));
    fs::remove_file(copy.out()).unwrap();
    fs::copy(copy.file(&first), copy.file("model-3.safetensors")).unwrap();
    copy.refuses(3, "is in model-00001-of-00002.safetensors, too");
    fs::remove_file(copy.file("model-3.safetensors")).unwrap();

    let extra = |name: &str, dtype: &str, bytes: &[u8]| {
        write_shard(&copy.file("model-3.safetensors"), &[(name, dtype, &[bytes.len() / 4], bytes)]);
    };
    extra("model.layers.0.self_attn.q_norm.weight", "F32", &[0; 16]);
    copy.refuses(
        3,
        "model.layers.0.self_attn.q_norm.weight: no SmallThinker model has this tensor",
    );
    extra("model.layers.0.self_attn.rotary_emb.inv_freq", "F32", &[0; 16]);
    stdout(&copy.convert(&[]));
    fs::remove_file(copy.out()).unwrap();
    for file in ["config.json", "tokenizer.json"] {
        let text = fs::read(copy.file(file)).unwrap();
        fs::write(copy.file(file), &text[..text.len() / 2]).unwrap();
        copy.refuses(3, &format!("{file}: EOF while parsing"));
        fs::write(copy.file(file), b"\xff\xfe").unwrap();
        copy.refuses(3, "valid UTF-8");
        fs::remove_file(copy.file(file)).unwrap();
        copy.refuses(3, &format!("{file}: no such file"));
        fs::write(copy.file(file), text).unwrap();
    }
    for file in ["chat_template.jinja", "generation_config.json"] {
        fs::remove_file(copy.file(file)).unwrap();
        assert!(Command::new("mkfifo").arg(copy.file(file)).status().unwrap().success());
        copy.refuses(3, &format!("{file}: a regular file expected"));
        fs::remove_file(copy.file(file)).unwrap();
    }
    fs::write(copy.file("additional_chat_templates"), "no folder").unwrap();
    copy.refuses(3, "additional_chat_templates: Not a directory");
    fs::remove_file(copy.file("additional_chat_templates")).unwrap();
    fs::write(copy.file("model.safetensors.index.json"), r#"{"weight_map": {"a": "../b"}}"#)
        .unwrap();
    copy.refuses(3, "the name of a file in the same folder expected, \"../b\" found");
    let nowhere = copy.file("nowhere").display().to_string();
    fails(&wick(&["convert", &nowhere, "-o", &copy.out()]), 3, "nowhere/config.json: no such file");
}

/// Other types than those of weights are refused, weights that are no numbers too, wherever they stand.
#[test]
fn weights_are_checked() {
    let copy = Copy::of("large");
    let path = copy.file("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let table = usize::try_from(u64::from_le_bytes(whole[..8].try_into().unwrap())).unwrap();
    let text = String::from_utf8(whole[8..8 + table].to_vec()).unwrap();
    let table: Value = serde_json::from_str(&text).unwrap();
    let name = "model.layers.3.block_sparse_moe.experts.2.down.weight";
    let end = table[name]["data_offsets"][1].as_u64().unwrap() as usize + 8 + text.len();
    let mut infinite = whole.clone();
    infinite[end - 2..end].copy_from_slice(&0x7c00u16.to_le_bytes());
    fs::write(&path, infinite).unwrap();
    copy.refuses(3, "blk.3.ffn_down_exps.weight, row 95: finite weights expected, inf found");
    let other = text.replacen("\"F16\"", "\"I16\"", 1);
    fs::write(&path, [&whole[..8], other.as_bytes(), &whole[8 + text.len()..]].concat()).unwrap();
    copy.refuses(3, "BF16, F16 or F32 expected, I16 found");
}
