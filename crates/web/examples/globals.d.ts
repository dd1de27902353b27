// The constants of WebGPU that TypeScript's own library leaves out.
declare const GPUBufferUsage: Record<"MAP_READ" | "COPY_SRC" | "COPY_DST" | "STORAGE", number>;
declare const GPUShaderStage: { COMPUTE: number };
declare const GPUMapMode: { READ: number };
