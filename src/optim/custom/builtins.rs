//! The predeclared names of WGSL and of naga's extensions. WGSL lets a text redefine these names, and naga accepts that without a message;
//! the harness would then call the text's function in place of the builtin.

/// Functions, types, type generators and enumerants.
const BUILTINS: &str = "RayDesc RayIntersection abs acceleration_structure acos acosh all any array arrayLength asin asinh atan \
     atan2 atanh atomic atomicAdd atomicAnd atomicCompareExchangeWeak atomicExchange atomicLoad atomicMax \
     atomicMin atomicOr atomicStore atomicSub atomicXor bgra8unorm binding_array bitcast bool ceil clamp coopLoad \
     coopMultiplyAdd coopStore coop_mat16x16 coop_mat8x8 cos cosh countLeadingZeros countOneBits \
     countTrailingZeros cross degrees determinant distance dot dot4I8Packed dot4U8Packed dpdx dpdxCoarse dpdxFine \
     dpdy dpdyCoarse dpdyFine exp exp2 extractBits f16 f32 f64 faceForward firstLeadingBit firstTrailingBit floor \
     fma fract frexp function fwidth fwidthCoarse fwidthFine getCandidateHitVertexPositions \
     getCommittedHitVertexPositions handle i16 i32 i64 immediate insertBits inverseSqrt ldexp length log log2 \
     mat2x2 mat2x2f mat2x2h mat2x3 mat2x3f mat2x3h mat2x4 mat2x4f mat2x4h mat3x2 mat3x2f mat3x2h mat3x3 mat3x3f \
     mat3x3h mat3x4 mat3x4f mat3x4h mat4x2 mat4x2f mat4x2h mat4x3 mat4x3f mat4x3h mat4x4 mat4x4f mat4x4h max min \
     mix modf normalize pack2x16float pack2x16snorm pack2x16unorm pack4x8snorm pack4x8unorm pack4xI8 \
     pack4xI8Clamp pack4xU8 pack4xU8Clamp pow private ptr quadBroadcast quadSwapDiagonal quadSwapX quadSwapY \
     quantizeToF16 r16float r16sint r16snorm r16uint r16unorm r32float r32sint r32uint r64uint r8sint r8snorm \
     r8uint r8unorm radians rayQueryConfirmIntersection rayQueryGenerateIntersection \
     rayQueryGetCandidateIntersection rayQueryGetCommittedIntersection rayQueryInitialize rayQueryProceed \
     rayQueryTerminate ray_query read read_write reflect refract reverseBits rg11b10ufloat rg16float rg16sint \
     rg16snorm rg16uint rg16unorm rg32float rg32sint rg32uint rg8sint rg8snorm rg8uint rg8unorm rgb10a2uint \
     rgb10a2unorm rgba16float rgba16sint rgba16snorm rgba16uint rgba16unorm rgba32float rgba32sint rgba32uint \
     rgba8sint rgba8snorm rgba8uint rgba8unorm round sampler sampler_comparison saturate select sign sin sinh \
     smoothstep sqrt step storage storageBarrier subgroupAdd subgroupAll subgroupAnd subgroupAny subgroupBallot \
     subgroupBarrier subgroupBroadcast subgroupBroadcastFirst subgroupElect subgroupExclusiveAdd \
     subgroupExclusiveMul subgroupInclusiveAdd subgroupInclusiveMul subgroupMax subgroupMin subgroupMul \
     subgroupOr subgroupShuffle subgroupShuffleDown subgroupShuffleUp subgroupShuffleXor subgroupXor tan tanh \
     textureAtomicAdd textureAtomicAnd textureAtomicMax textureAtomicMin textureAtomicOr textureAtomicXor \
     textureBarrier textureDimensions textureGather textureGatherCompare textureLoad textureNumLayers \
     textureNumLevels textureNumSamples textureSample textureSampleBaseClampToEdge textureSampleBias \
     textureSampleCompare textureSampleCompareLevel textureSampleGrad textureSampleLevel textureStore texture_1d \
     texture_2d texture_2d_array texture_3d texture_cube texture_cube_array texture_depth_2d \
     texture_depth_2d_array texture_depth_cube texture_depth_cube_array texture_depth_multisampled_2d \
     texture_external texture_multisampled_2d texture_storage_1d texture_storage_2d texture_storage_2d_array \
     texture_storage_3d traceRay transpose trunc u16 u32 u64 uniform unpack2x16float unpack2x16snorm \
     unpack2x16unorm unpack4x8snorm unpack4x8unorm unpack4xI8 unpack4xU8 vec2 vec2f vec2h vec2i vec2u vec3 vec3f \
     vec3h vec3i vec3u vec4 vec4f vec4h vec4i vec4u workgroup workgroupBarrier workgroupUniformLoad write";

pub(super) fn is_builtin(name: &str) -> bool {
    BUILTINS.split(' ').any(|builtin| builtin == name)
}
