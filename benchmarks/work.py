"""What the tasks of the contests do."""

import asyncio
import time


def nothing(item: object) -> object:
    """Give the item back."""
    return item


async def suspend_once(item: object) -> object:
    """Give the item back after one turn of the loop."""
    await asyncio.sleep(0)
    return item


def sleep(seconds: float) -> float:
    """Sleep."""
    time.sleep(seconds)
    return seconds
