//! Boards that wick is made for, and what bounds a model on them.

/// How fast a board reads, at most.
///
/// Figures are the nominal ones of its parts: the width and transfer rate of its memory, and the bus
/// of the storage that it usually boots from. What is reached is less.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Board {
    /// Short name.
    pub name: &'static str,
    /// Full name, with the parts that the figures are of.
    pub title: &'static str,
    /// Bytes of memory that are read in a second.
    pub memory: f64,
    /// Bytes of storage that are read in a second.
    pub storage: f64,
}

impl Board {
    /// All boards.
    pub const ALL: [Board; 6] = [
        Board {
            name: "pi4",
            title: "Raspberry Pi 4: 32 bits of LPDDR4-3200, SD card (DDR50)",
            memory: 12.8e9,
            storage: 50e6,
        },
        Board {
            name: "pi5",
            title: "Raspberry Pi 5: 32 bits of LPDDR4X-4267, SD card (SDR104)",
            memory: 17.1e9,
            storage: 104e6,
        },
        Board {
            name: "pi5-nvme",
            title: "Raspberry Pi 5: 32 bits of LPDDR4X-4267, NVMe at one lane of PCIe 2",
            memory: 17.1e9,
            storage: 500e6,
        },
        Board {
            name: "rk3566",
            title: "RK3566: 32 bits of LPDDR4X-2112, eMMC 5.1 (HS200)",
            memory: 8.4e9,
            storage: 200e6,
        },
        Board {
            name: "rk3588",
            title: "RK3588: 64 bits of LPDDR4X-4224, eMMC 5.1 (HS400)",
            memory: 33.8e9,
            storage: 400e6,
        },
        Board {
            name: "rk3588-nvme",
            title: "RK3588: 64 bits of LPDDR4X-4224, NVMe at four lanes of PCIe 3",
            memory: 33.8e9,
            storage: 3.9e9,
        },
    ];

    /// The board of a name.
    pub fn find(name: &str) -> Option<&'static Board> {
        Board::ALL.iter().find(|board| board.name == name)
    }
}
