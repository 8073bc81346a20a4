// aqqua._core: host hot paths, NumPy in and NumPy out. This file is the table of contents.
// Documentation of each function: aqqua/_core.pyi. Specifications: the Python references.
#include <pybind11/pybind11.h>

void register_fill(pybind11::module_ &);     // fill.cpp: which images share a pack
void register_masks(pybind11::module_ &);    // masks.cpp: which patches iBOT hides
void register_near_keys(pybind11::module_ &);  // near_keys.cpp: which images may be copies
void register_order(pybind11::module_ &);    // order.cpp: lanes, windows, repeats
void register_permute(pybind11::module_ &);  // permute.cpp: order without memory
void register_plan(pybind11::module_ &);     // plan.cpp: what every view will be
void register_pose_products(pybind11::module_ &);  // pose_products.cpp: small pictures in eight poses
void register_render(pybind11::module_ &);   // render.cpp: plan and pixels to patch rows
void register_same_picture(pybind11::module_ &);  // same_picture.cpp: do two images show the same
void register_tiles(pybind11::module_ &);    // tiles.cpp: sequences to attention tiles

PYBIND11_MODULE(_core, module, pybind11::mod_gil_not_used()) {
    module.doc() = "Host hot paths of aqqua in C++.";
    register_fill(module);
    register_masks(module);
    register_near_keys(module);
    register_order(module);
    register_permute(module);
    register_plan(module);
    register_pose_products(module);
    register_render(module);
    register_same_picture(module);
    register_tiles(module);
}
