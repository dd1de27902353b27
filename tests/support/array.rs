//! Arrays of safetensors files.

/// The f32 numbers of an array.
pub(crate) fn of_file(bytes: &[u8], key: &str) -> Vec<f32> {
    let file = safetensors::SafeTensors::deserialize(bytes).expect("it is a safetensors file");
    let array = file.tensor(key).expect("the file has the array");
    array.data().chunks_exact(4).map(bytemuck::pod_read_unaligned).collect()
}
