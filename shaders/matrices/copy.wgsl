// Copies matrices between an arena and the scratch, where every matrix has at least as many rows as columns.

// Matrices of one tensor that follow each other.
struct wo_Slot {
    rows: u32,
    columns: u32,
    first: u32,   // first element in the page
    pad: u32,
}

// The place in the page of a slot's element; no page is as long as wo_NOWHERE, which stands for an element of another panel.
fn wo_place(slot: wo_Slot, element: u32) -> u32 {
    let size = slot.rows * slot.columns;
    let within = element % size;
    let at = vec2(within / slot.columns, within % slot.columns);
    let tall = select(at.yx, at, slot.rows > slot.columns);
    if tall.x < wo_work.begin || tall.x >= wo_work.end {
        return wo_NOWHERE;
    }
    let width = min(slot.rows, slot.columns);
    return slot.first + (element - within) + (tall.x - wo_work.begin) * width + tall.y;
}

@compute @workgroup_size(wo_COPY_LANES)
fn wo_copy(thread: wo_Thread) {
    let number = wo_workgroup(thread);
    if number >= wo_work.count {
        return;
    }
    // The element in the arena, the element in the slot, the count, the slot.
    let copy = wo_copies[wo_work.first + number];
    let slot = wo_slots[wo_work.matrices + copy.w];
    for (var i = thread.lane; i < copy.z; i += wo_COPY_LANES) {
        let place = wo_place(slot, copy.y + i);
        if place != wo_NOWHERE {
#if GATHER
            wo_page[place] = wo_arena[wo_work.array + copy.x + i];
#else
            wo_arena[wo_work.array + copy.x + i] = wo_page[place];
#endif
        }
    }
}
