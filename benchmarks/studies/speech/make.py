"""A spoken sentence whose words' times are known: each is spoken by itself (espeak-ng) and they are joined.

python benchmarks/studies/speech/make.py      # needs espeak-ng and scipy; writes sentence.wav and sentence.json
"""

import json
import subprocess
import tempfile
import wave
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

WORDS = ("the", "old", "dog", "is", "sleeping", "under", "the", "kitchen", "table")
RATE, GAP = 16000, 0.04
HERE = Path(__file__).parent


def spoken(word: str) -> np.ndarray:
    """One word without the silence around it, at `RATE`."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run(["espeak-ng", "-v", "en-us", "-s", "130", "-w", file.name, word], check=True)
        with wave.open(file.name) as recording:
            samples = np.frombuffer(recording.readframes(recording.getnframes()), "<i2") / 32768
            samples = resample_poly(samples, RATE, recording.getframerate())
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    return samples[loud[0] : loud[-1] + 1]


def main() -> None:
    """Join the words and note when each is heard."""
    pieces, times, at = [np.zeros(int(0.2 * RATE))], [], 0.2
    for word in WORDS:
        samples = spoken(word)
        times.append({"word": word, "start": round(at, 3), "end": round(at + len(samples) / RATE, 3)})
        pieces += [samples, np.zeros(int(GAP * RATE))]
        at += len(samples) / RATE + GAP
    joined = np.concatenate([*pieces, np.zeros(int(0.2 * RATE))])
    with wave.open(str(HERE / "sentence.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((joined / np.abs(joined).max() * 0.9 * 32767).astype("<i2").tobytes())
    (HERE / "sentence.json").write_text(json.dumps(times, indent=1) + "\n")


if __name__ == "__main__":
    main()
