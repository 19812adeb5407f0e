//! Sparse files in GNU's four forms.

use std::io::BufRead;

use super::{BLOCK, Header, Reader, Result, malformed, number, pax, until_nul};

/// A file in more pieces than this is not a real one.
const MAX_SEGMENTS: usize = 1 << 16;

/// A run of data: where it belongs in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// Fills in size, path and segments of a sparse file; others stay as they are.
pub(super) fn expand<R: BufRead>(
    reader: &mut Reader<R>,
    block: &[u8; BLOCK],
    flag: u8,
    records: &pax::Records,
    header: &mut Header,
) -> Result<()> {
    let (numbers, real_size) = if flag == b'S' {
        (old_form(reader, block)?, number(&block[483..495])?)
    } else {
        let Some(real_size) = records.sparse.real_size else {
            return Ok(());
        };
        let numbers = match records.sparse.version {
            (Some(1), Some(0)) => form_1_0(reader)?,
            _ => records.sparse.map.clone(),
        };
        (numbers, real_size)
    };
    if let Some(name) = &records.sparse.name {
        header.path = until_nul(name);
    }
    header.segments = check(&numbers, real_size, reader.unread)?;
    header.size = real_size;
    Ok(())
}

/// Offsets and lengths in turn, ascending, within the file, and as much data in
/// all as the archive holds.
fn check(numbers: &[u64], real_size: u64, stored: u64) -> Result<Vec<Segment>> {
    let fault = || malformed("a sparse file's map is wrong");
    if !numbers.len().is_multiple_of(2) || numbers.len() > 2 * MAX_SEGMENTS {
        return Err(fault());
    }
    let (mut segments, mut end, mut total) = (Vec::new(), 0_u64, 0_u64);
    for pair in numbers.chunks_exact(2) {
        let segment = Segment {
            offset: pair[0],
            len: pair[1],
        };
        let next = segment.offset.checked_add(segment.len).ok_or_else(fault)?;
        if segment.offset < end || next > real_size {
            return Err(fault());
        }
        end = next;
        total = total.checked_add(segment.len).ok_or_else(fault)?;
        segments.push(segment);
    }
    if total > stored {
        return Err(fault());
    }
    Ok(segments)
}

/// The form of GNU's own header: four pairs in it, and 21 in each further block.
fn old_form<R: BufRead>(reader: &mut Reader<R>, block: &[u8; BLOCK]) -> Result<Vec<u64>> {
    let mut numbers = pairs(&block[386..482])?;
    let mut more = block[482] != 0;
    while more {
        // Continuation blocks come before the data and are not part of its size.
        let mut next = [0; BLOCK];
        std::io::Read::read_exact(&mut reader.input, &mut next).map_err(super::eof)?;
        numbers.extend(pairs(&next[..504])?);
        more = next[504] != 0;
        if numbers.len() > 2 * MAX_SEGMENTS {
            return Err(malformed("a sparse file's map is too long"));
        }
    }
    Ok(numbers)
}

fn pairs(field: &[u8]) -> Result<Vec<u64>> {
    let used = field.chunks_exact(24).take_while(|pair| pair[0] != 0);
    let mut numbers = Vec::new();
    for pair in used {
        numbers.extend([number(&pair[..12])?, number(&pair[12..])?]);
    }
    Ok(numbers)
}

/// The form 1.0: the map stands as decimal lines before the data, in whole
/// blocks: a count, then offset and length of each segment.
fn form_1_0<R: BufRead>(reader: &mut Reader<R>) -> Result<Vec<u64>> {
    let mut text = Vec::new();
    let mut wanted: Option<usize> = None;
    loop {
        text.extend(reader.read_data(BLOCK as u64)?);
        let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        // The part behind the last newline is not a line yet.
        let complete = lines.len() - 1;
        if wanted.is_none() && complete > 0 {
            let count = usize::try_from(pax::decimal(lines[0])?).unwrap_or(usize::MAX);
            if count > MAX_SEGMENTS {
                return Err(malformed("a sparse file's map is too long"));
            }
            wanted = Some(1 + 2 * count);
        }
        if let Some(wanted) = wanted
            && complete >= wanted
        {
            return lines[1..wanted]
                .iter()
                .map(|line| pax::decimal(line))
                .collect();
        }
    }
}
