//! Mesa's AMD driver without a GPU: it compiles for the family that the environment names.
#![allow(clippy::undocumented_unsafe_blocks, reason = "Vulkan's calls; the driver has no GPU and runs nothing")]

use std::ffi::{CStr, CString};
use std::path::Path;

use ash::{khr, vk};

use crate::assembly::Compiled;
use crate::kernel::Kernel;

/// Where Linux distributions install the driver's description.
const FOLDERS: [&str; 3] = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"];
const FILES: [&str; 2] = ["radeon_icd.x86_64.json", "radeon_icd.json"];

pub(crate) struct Driver {
    pub(crate) version: String,
    instance: ash::Instance,
    device: ash::Device,
    executables: khr::pipeline_executable_properties::Device,
    // The library must outlive its functions.
    _entry: ash::Entry,
}

impl Driver {
    /// Opens a device of the family, or tells why there is none.
    pub(crate) fn open(family: &str) -> Result<Self, String> {
        let files = FOLDERS.iter().flat_map(|folder| FILES.iter().map(move |file| Path::new(folder).join(file)));
        let file = files.into_iter().find(|file| file.exists()).ok_or("Mesa's AMD driver is not installed")?;
        // SAFETY: this test's process has no other thread that reads the environment: the other tests of the suite do not.
        unsafe {
            std::env::set_var("VK_DRIVER_FILES", &file);
            std::env::set_var("VK_ICD_FILENAMES", &file);
            std::env::set_var("RADV_FORCE_FAMILY", family);
            std::env::set_var("MESA_SHADER_CACHE_DISABLE", "1");
        }
        let entry = unsafe { ash::Entry::load() }.map_err(|error| format!("no Vulkan loader: {error}"))?;
        let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
        let create = vk::InstanceCreateInfo::default().application_info(&application);
        let instance =
            unsafe { entry.create_instance(&create, None) }.map_err(|error| format!("no instance: {error}"))?;
        let devices =
            unsafe { instance.enumerate_physical_devices() }.map_err(|error| format!("no device: {error}"))?;
        let physical = *devices.first().ok_or("the driver has no device without a GPU")?;
        let mut driver = vk::PhysicalDeviceDriverProperties::default();
        let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut driver);
        unsafe { instance.get_physical_device_properties2(physical, &mut properties) };
        let text = |text: &CStr| text.to_string_lossy().into_owned();
        let version = text(driver.driver_info_as_c_str().unwrap());
        let device = device(&instance, physical).map_err(|error| format!("no device: {error}"))?;
        let executables = khr::pipeline_executable_properties::Device::new(&instance, &device);
        Ok(Self { version, instance, device, executables, _entry: entry })
    }

    pub(crate) fn compile(&self, kernel: &Kernel) -> Compiled {
        let device = &self.device;
        let bindings: Vec<_> = kernel
            .uniforms
            .iter()
            .zip(0..)
            .map(|(uniform, binding)| {
                let kind = if *uniform {
                    vk::DescriptorType::UNIFORM_BUFFER_DYNAMIC
                } else {
                    vk::DescriptorType::STORAGE_BUFFER
                };
                vk::DescriptorSetLayoutBinding::default()
                    .binding(binding)
                    .descriptor_type(kind)
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
            })
            .collect();
        unsafe {
            let set = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let sets = [device.create_descriptor_set_layout(&set, None).unwrap()];
            let layout = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
            let layout = device.create_pipeline_layout(&layout, None).unwrap();
            let module = vk::ShaderModuleCreateInfo::default().code(&kernel.words);
            let module = device.create_shader_module(&module, None).unwrap();
            let entry = CString::new(kernel.entry.as_str()).unwrap();
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(&entry);
            let capture = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
            let create = [vk::ComputePipelineCreateInfo::default().flags(capture).stage(stage).layout(layout)];
            let pipeline = device.create_compute_pipelines(vk::PipelineCache::null(), &create, None).unwrap()[0];
            let compiled = self.read(pipeline);
            device.destroy_pipeline(pipeline, None);
            device.destroy_shader_module(module, None);
            device.destroy_pipeline_layout(layout, None);
            device.destroy_descriptor_set_layout(sets[0], None);
            compiled
        }
    }

    /// The statistics and the assembly of a pipeline's one executable.
    unsafe fn read(&self, pipeline: vk::Pipeline) -> Compiled {
        let of = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline);
        let statistics = unsafe { self.executables.get_pipeline_executable_statistics(&of) }.unwrap();
        let statistics = statistics
            .iter()
            .map(|statistic| {
                (statistic.name_as_c_str().unwrap().to_string_lossy().into_owned(), unsafe { statistic.value.u64 })
            })
            .collect();
        let get = self.executables.fp().get_pipeline_executable_internal_representations_khr;
        let device = self.device.handle();
        let mut count = 0;
        unsafe { get(device, &raw const of, &raw mut count, std::ptr::null_mut()) }.result().unwrap();
        let mut texts = vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
        unsafe { get(device, &raw const of, &raw mut count, texts.as_mut_ptr()) }.result().unwrap();
        let mut bytes: Vec<Vec<u8>> = texts.iter().map(|text| vec![0; text.data_size]).collect();
        for (text, bytes) in texts.iter_mut().zip(&mut bytes) {
            text.p_data = bytes.as_mut_ptr().cast();
        }
        unsafe { get(device, &raw const of, &raw mut count, texts.as_mut_ptr()) }.result().unwrap();
        let is_assembly = |text: &vk::PipelineExecutableInternalRepresentationKHR<'_>| {
            text.name_as_c_str().is_ok_and(|name| name.to_string_lossy().contains("ssembly"))
        };
        let at = texts.iter().position(is_assembly).expect("the driver gives the assembly");
        let assembly = CStr::from_bytes_until_nul(&bytes[at]).unwrap().to_string_lossy().into_owned();
        Compiled { assembly, statistics }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        unsafe {
            self.device.destroy_device(None);
            self.instance.destroy_instance(None);
        }
    }
}

/// A device with the features that wgpu turns on where they change what the compiler makes of a kernel.
fn device(instance: &ash::Instance, physical: vk::PhysicalDevice) -> ash::prelude::VkResult<ash::Device> {
    let queues = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
    let extensions = [khr::pipeline_executable_properties::NAME.as_ptr(), ash::ext::robustness2::NAME.as_ptr()];
    let robust = vk::PhysicalDeviceFeatures::default().robust_buffer_access(true);
    let mut executables =
        vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
    let mut robustness = vk::PhysicalDeviceRobustness2FeaturesEXT::default().robust_buffer_access2(true);
    let create = vk::DeviceCreateInfo::default()
        .queue_create_infos(&queues)
        .enabled_extension_names(&extensions)
        .enabled_features(&robust)
        .push_next(&mut executables)
        .push_next(&mut robustness);
    unsafe { instance.create_device(physical, &create, None) }
}
