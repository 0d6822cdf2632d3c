//! What tensors are called in Hugging Face's files of the model.

use wick_core::{Config, Role, TensorName};

pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
pub(crate) const LM_HEAD: &str = "lm_head.weight";

/// The tensors that one of the file is made of: as many as experts, or one.
pub(crate) fn sources(name: TensorName, config: &Config) -> Vec<String> {
    let layer = name.layer.unwrap_or_default();
    let stem = match name.role {
        Role::Embedding => return vec![EMBEDDING.into()],
        Role::LmHead => return vec![LM_HEAD.into()],
        Role::OutputNorm => return vec!["model.norm.weight".into()],
        // It comes from a file of its own.
        Role::Profiler => return Vec::new(),
        Role::AttnNorm => "input_layernorm",
        Role::Query => "self_attn.q_proj",
        Role::Key => "self_attn.k_proj",
        Role::Value => "self_attn.v_proj",
        Role::AttnOutput => "self_attn.o_proj",
        Role::FfnNorm => "post_attention_layernorm",
        Role::Router => "block_sparse_moe.primary_router",
        Role::Gate | Role::Up | Role::Down => {
            let part = name.role.part().map(|part| part.to_string()).unwrap_or_default();
            let expert =
                |e| format!("model.layers.{layer}.block_sparse_moe.experts.{e}.{part}.weight");
            return (0..config.experts).map(expert).collect();
        }
    };
    vec![format!("model.layers.{layer}.{stem}.weight")]
}
