//! The matrices of WarpAdam, read and written outside of steps.

use crate::gpu::build::spec::Tensor;
use crate::gpu::optimizer::Optimizer;
use crate::optim::procedure::{COLUMNS, Warp, check_matrix, downcast};
use crate::{Error, Result};

impl Optimizer {
    /// Reads WarpAdam's matrix of a tensor: for each element, the `warp_block` numbers of its row in its block.
    ///
    /// # Errors
    /// The rule has no matrix; the device was lost.
    pub async fn read_warp(&self, tensor: Tensor) -> Result<Vec<f32>> {
        let warp = self.warp_of(tensor)?;
        let elements = self.spec.tensor_info(tensor)?.kept() as usize;
        let mut rows = vec![0.0; elements * warp.block];
        for (j, column) in COLUMNS[..warp.block].iter().enumerate() {
            for (row, p) in rows.chunks_exact_mut(warp.block).zip(self.read_state(tensor, column).await?) {
                row[j] = p;
            }
        }
        Ok(rows)
    }

    /// Writes WarpAdam's matrix of a tensor, in the layout of [`read_warp`](Self::read_warp), before the next submitted work.
    /// Numbers past the end of a smaller last block must be 0.
    ///
    /// # Errors
    /// The rule has no matrix; the length is wrong; a number past the end of a block is not 0.
    pub fn write_warp(&self, tensor: Tensor, rows: &[f32]) -> Result<()> {
        let warp = self.warp_of(tensor)?;
        let info = self.spec.tensor_info(tensor)?;
        check_matrix(&info.name, warp, info.kept() as usize, rows)?;
        for (j, column) in COLUMNS[..warp.block].iter().enumerate() {
            let values: Vec<f32> = rows.chunks_exact(warp.block).map(|row| row[j]).collect();
            self.write_state(tensor, column, &values)?;
        }
        Ok(())
    }

    fn warp_of(&self, tensor: Tensor) -> Result<Warp> {
        let info = self.spec.tensor_info(tensor)?;
        let procedure = self.spec.groups[info.group].rule.procedure();
        let warp = downcast::<Warp>(&procedure).filter(|_| !info.frozen).copied();
        warp.ok_or_else(|| Error::Tensor { tensor: info.name.clone(), problem: "it has no matrix".to_owned() })
    }
}
