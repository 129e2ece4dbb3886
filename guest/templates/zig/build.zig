const std = @import("std");

pub fn build(b: *std.Build) void {
    const module = b.addExecutable(.{
        .name = "template-name",
        .root_module = b.createModule(.{
            .root_source_file = b.path("src/main.zig"),
            .target = b.resolveTargetQuery(.{ .cpu_arch = .wasm32, .os_tag = .wasi }),
            .optimize = b.standardOptimizeOption(.{}),
        }),
    });
    // Started once, and called for each request by what it exports.
    module.wasi_exec_model = .reactor;
    module.entry = .disabled;
    module.rdynamic = true;
    b.installArtifact(module);
}
