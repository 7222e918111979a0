//! How RocksDB is set up, and why.

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, LogLevel,
    LruCacheOptions, Options, WriteBufferManager,
};

/// One budget for cached blocks and unwritten data.
const MEMORY: usize = 256 << 20;
/// The part of the budget that unwritten data may take.
const WRITE_BUFFERS: usize = 96 << 20;
const WRITE_BUFFER: usize = 32 << 20;
/// The cache has two to the power of so many shards. What is larger than a shard is never kept: the filter of a table
/// that an older version wrote has ten bits for each record, up to some 8 MB.
const SHARD_BITS: i32 = 3;
/// Parts of the index and of the filter of a table, in bytes: what a read brings into memory beside the record.
const METADATA_BLOCK: usize = 16 << 10;
/// Bounds the log, and so the time to recover it.
const WAL: u64 = 64 << 20;
/// Files that are left to the program around us.
const FILES_LEFT: u64 = 256;

/// Files that are open for a look.
const FILES_TO_LOOK: i32 = 32;

/// The options of every store.
pub(crate) fn options() -> Options {
    let cache = cache();
    let mut options = Options::default();
    options.create_if_missing(true);
    // A torn end of the log is cut off; what comes before is a prefix of the batches. Absolute consistency
    // would refuse a store whose machine lost power.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    // A recycled log can bring back old records after a crash.
    options.set_recycle_log_file_num(0);
    options.set_max_total_wal_size(WAL);
    options.set_write_buffer_size(WRITE_BUFFER);
    options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager_with_cache(
        WRITE_BUFFERS,
        false,
        cache.clone(),
    ));
    options.set_max_open_files(max_open_files());
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_max_background_jobs(2);
    options.set_keep_log_file_num(2);
    options.set_log_level(LogLevel::Warn);
    options.set_block_based_table_factory(&tables(&cache));
    options
}

/// The options for a look at one record, before a store is opened: as little is made ready as can be.
pub(crate) fn for_a_look() -> Options {
    let mut options = Options::default();
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_max_open_files(FILES_TO_LOOK);
    options.set_skip_stats_update_on_db_open(true);
    options
}

fn cache() -> Cache {
    let mut options = LruCacheOptions::default();
    options.set_capacity(MEMORY);
    options.set_num_shard_bits(SHARD_BITS);
    Cache::new_lru_cache_opts(&options)
}

fn tables(cache: &Cache) -> BlockBasedOptions {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(cache);
    // Index and filter blocks count against the budget too, but the newest stay in.
    tables.set_cache_index_and_filter_blocks(true);
    tables.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // Most reads ask for one key that exists or not.
    tables.set_bloom_filter(10.0, false);
    // Else one read would bring in index and filter of a whole table, megabytes of them.
    tables.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    tables.set_partition_filters(true);
    tables.set_metadata_block_size(METADATA_BLOCK);
    tables.set_pin_top_level_index_and_filter(true);
    tables.set_format_version(6);
    tables
}

/// As many files as the process may have open, less those of the program around us.
fn max_open_files() -> i32 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(4096);
    let ours = limit.saturating_sub(FILES_LEFT).clamp(64, 4096);
    i32::try_from(ours).unwrap_or(4096)
}
